"""How the story and its results are printed."""

SCALES = (30, "GiB"), (20, "MiB"), (10, "KiB")


def say(text):
    print(text, flush=True)


def timed(text, seconds, more=""):
    say(f"  {text:<44} {seconds * 1e3:8.0f} ms  {more}".rstrip())


def size(count):
    for bits, unit in SCALES:
        if count >= 1 << bits:
            return f"{count / (1 << bits):.2f} {unit}"
    return f"{count} B"


def table(head, rows):
    """The first column is text, the others end where their heads end."""
    rows = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *others in rows:
        say("  " + "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))]))
