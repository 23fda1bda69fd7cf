"""The colours of PASCAL VOC's class masks."""

from functools import cache


@cache
def voc_palette() -> list[int]:
    """The VOC palette as Pillow wants it: 768 values r, g, b, r, g, b, …, each in [0, 255].

    Index 0 is black, 1 to 20 the VOC classes, 255 the pale rim of void.
    Source: the VOC development kit (the bits of an index are dealt out to r, g and b in turn).
    One list for all callers, who do not change it: made anew for each mask, it took a tenth of a mask's time.
    """
    palette = []
    for index in range(256):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        palette += colour
    return palette
