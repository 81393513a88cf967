"""Colours of Okabe and Ito, which colour-blind readers tell apart."""

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK, GREY = "#56B4E9", "#D55E00", "#F0E442", "#222222", "#9A9A9A"
PALE = "#D8D8D8"
COLOURS = (BLACK, BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY, "#661100", "#332288")
