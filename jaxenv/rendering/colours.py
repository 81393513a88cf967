"""The palette of all figures: colours of Okabe and Ito, which colour-blind readers tell apart."""

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK, GREY = "#56B4E9", "#D55E00", "#F0E442", "#000000", "#9A9A9A"
INK, PALE, BROWN = "#222222", "#D8D8D8", "#8C6D1F"
COLOURS = (INK, BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY, "#661100", "#332288")


def luminance(colour: str) -> float:
    """Relative luminance of ``#RRGGBB``, 0 of black to 1 of white (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def text_on(colour: str) -> str:
    """Black or white, whichever has more contrast with what is behind it: at least 4.5."""
    behind = luminance(colour) + 0.05
    return BLACK if behind / 0.05 > 1.05 / behind else "#FFFFFF"
