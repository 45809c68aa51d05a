"""What is made of the evidence: which kind of reliance it is, who is a culprit, and how much harm it does."""
