"""What a notebook shows of a result: HTML tables and small traces, written by hand, readable on light and on dark."""

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from slt_jax.sampling.records import block_means

if TYPE_CHECKING:
    from slt_jax.sampling.samples import Samples

__all__ = ["MOST_CHAINS", "samples_view", "table", "trace_svg", "view"]

MOST_CHAINS = 12
"""A view lists and draws this many chains and says how many more there are."""
WIDTH, HEIGHT, LEFT, BOTTOM = 420, 110, 52, 16
INKS = ("#3d85c6", "#d0802a", "#4f9f55", "#b8559a", "#8a7f66", "#2f9fa0")  # of middle lightness, to show on both


def samples_view(samples: "Samples") -> str:
    """The HTML of `Samples`: how much was recorded, with which settings, and nβ(L - L(w*)) along the chains."""
    chains, draws = samples.loss.shape
    rows = [
        ("parameters sampled", f"{samples.num_parameters:,}"),
        ("nβ", _span(samples.nbeta)),
        ("γ", _span(samples.localization)),
        ("step size", _span(samples.step_size)),
        ("baseline L(w*)", samples.baseline),
        ("burn-in steps", f"{samples.burnin_excess.shape[1]:,}"),
        *((f"observable {name}", _shape(values)) for name, values in samples.observables.items()),
    ]
    lost = np.flatnonzero(~samples.finite)
    if lost.size:
        rows.append(("not finite", f"chains {', '.join(map(str, lost[:MOST_CHAINS]))}{_more(lost.size)}"))
    trace = block_means(samples.nbeta[:, None] * samples.excess)
    title = f"Samples: {_count(chains, 'chain')} of {_count(draws, 'draw')}"
    return view(title, table(rows), trace_svg(trace, draws, hidden=~samples.finite))


def view(title: str, *parts: str) -> str:
    """One result as a block of HTML; `title` is text, `parts` are HTML."""
    return f'<div style="line-height:1.5"><div><b>{escape(title)}</b></div>{"".join(parts)}</div>'


def table(rows: list[tuple[str, str]]) -> str:
    """Names and values, both text, as an HTML table."""
    cell = 'style="text-align:left;padding:0 1.2em 0 0"'
    lines = [f"<tr><td {cell}>{escape(name)}</td><td {cell}>{escape(value)}</td></tr>" for name, value in rows]
    return f'<table style="border-collapse:collapse;margin:0.3em 0">{"".join(lines)}</table>'


def trace_svg(trace: np.ndarray, num_draws: int | None = None, *, hidden: np.ndarray | None = None) -> str:
    """Block means of nβ(L - L(w*)), `(chain, block)`, as an inline SVG; empty if nothing finite can be drawn.

    The heights are those of the chains that are not `hidden`; the others are left out, unless there are no more.
    """
    if hidden is not None and not hidden.all():
        trace = trace[~hidden]
    drawn = trace[:MOST_CHAINS]
    finite = drawn[np.isfinite(drawn)]
    if finite.size == 0:
        return ""
    low, high = float(finite.min()), float(finite.max())
    lines = "".join(_polylines(chain, low, high, INKS[index % len(INKS)]) for index, chain in enumerate(drawn))
    right = "" if num_draws is None else f"draw {num_draws:,}"
    more = f"{_more(len(trace))} chains" if len(trace) > MOST_CHAINS else ""
    return (
        f'<svg role="img" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" fill="none" '
        'style="max-width:100%;color:inherit" xmlns="http://www.w3.org/2000/svg">'
        f"<title>nβ (L - L(w*)) along the chains{escape(more)}</title>"
        f'<path d="M{LEFT} 4V{HEIGHT - BOTTOM}H{WIDTH - 4}" stroke="currentColor" stroke-opacity="0.5"/>'
        f"{lines}{_text(LEFT - 4, 12, f'{high:.3g}', 'end')}{_text(LEFT - 4, HEIGHT - BOTTOM, f'{low:.3g}', 'end')}"
        f"{_text(LEFT, HEIGHT - 3, 'nβ (L - L(w*))' + more, 'start')}{_text(WIDTH - 4, HEIGHT - 3, right, 'end')}</svg>"
    )


def _polylines(chain: np.ndarray, low: float, high: float, ink: str) -> str:
    """One chain, `(block,)`, as lines that are broken where it is not finite."""
    x = LEFT + 2 + (WIDTH - LEFT - 8) * np.arange(len(chain)) / max(len(chain) - 1, 1)
    y = 6 + (HEIGHT - BOTTOM - 10) * (high - chain) / ((high - low) or 1.0)
    known = np.isfinite(chain)
    pieces = np.split(np.arange(len(chain)), np.flatnonzero(np.diff(known)) + 1)
    points = [" ".join(f"{x[i]:.1f},{y[i]:.1f}" for i in piece) for piece in pieces if piece.size and known[piece[0]]]
    style = f'stroke="{ink}" stroke-width="1" stroke-linecap="round" stroke-linejoin="round"'
    return "".join(f'<polyline points="{each}" {style}/>' for each in points)


def _text(x: int, y: int, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="10" fill="currentColor">{escape(text)}</text>'


def _span(values: np.ndarray) -> str:
    low, high = values.min(), values.max()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _shape(values: object) -> str:
    if not isinstance(values, np.ndarray):
        return "a tree of arrays a draw"
    return f"{' x '.join(map(str, values.shape[2:]))} numbers a draw" if values.ndim > 2 else "one number a draw"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _more(count: int) -> str:
    return f" and {count - MOST_CHAINS} more" if count > MOST_CHAINS else ""
