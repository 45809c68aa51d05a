"""The colours of all pictures."""

INK, GREY, LIGHT, PAPER = "#1f2328", "#6e7781", "#d8dee4", "#f6f8fa"  # text, what stands back, lines, grounds
RED = "#c0392b"  # of what is unexpected
RAISES, LOWERS = "#d9822b", "#6a51a3"  # a score: orange and purple, as red is for what is unexpected
# Okabe and Ito's colours, which the colour-blind can tell apart, and two more
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#6a3d9a")
