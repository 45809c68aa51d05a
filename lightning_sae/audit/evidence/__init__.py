"""What speaks for and against a class: images, cues, groups, words, and the judge."""
