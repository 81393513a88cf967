"""The palette of all figures: colours of Okabe and Ito, which colour-blind readers tell apart."""

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK, GREY = "#56B4E9", "#D55E00", "#F0E442", "#000000", "#9A9A9A"
INK, PALE, BROWN = "#222222", "#D8D8D8", "#8C6D1F"
COLOURS = (INK, BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY, "#661100", "#332288")
