"""Parts of pages and reports as HTML: the same templates for both, so that both show the same words and numbers.

Names of pods, nodes and namespaces come from clusters and are hostile: autoescape is on for every template, and
nothing but our own style sheet is marked as safe.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from dashboard import formatting
from dashboard.mig_drawing import pods_text
from dashboard.palette import STATES, WORKLOADS

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates with autoescape, refusing undefined names, and the formatting of this package as filters."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        bytes_text=formatting.bytes_text,
        percent=formatting.percent,
        number=formatting.number,
        duration=formatting.duration,
        gpu_hours=formatting.gpu_hours,
        milliseconds=formatting.milliseconds,
        coded=coded,
        metric_label=formatting.metric_label,
        pods_text=pods_text,
        tokens_per_s_text=formatting.tokens_per_s_text,
        share_of_count=formatting.share_of_count,
        usd=formatting.usd,
    )
    env.globals.update(ABSENT=formatting.ABSENT, STATES=STATES, age=formatting.age, clock=formatting.clock)
    env.globals.update(metric_value=formatting.metric_value)
    return env


def coded(text: str) -> Markup:
    """The text with what stands between backticks as code; everything in it is escaped."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a lone backtick opens nothing
        return escape(text)
    return Markup("").join(
        Markup('<span class="mono">{}</span>').format(piece) if index % 2 else escape(piece)
        for index, piece in enumerate(pieces)
    )


@lru_cache(maxsize=1)
def style_sheet() -> Markup:
    """The one style sheet, with the colours of `dashboard.palette` filled in; it holds nothing from a cluster."""
    variables = " ".join(f"--{state.value}: light-dark({s.light}, {s.dark});" for state, s in STATES.items())
    rules = "\n".join(
        f".gf .t-{state.value} {{ --tone: var(--{state.value}); }} "
        f".gf .t-{state.value}.fill {{ background-color: var(--tone); }} "
        f".gf .cell.t-{state.value} {{ background-color: color-mix(in srgb, var(--tone) 26%, var(--panel)); "
        f"border-left: 4px solid var(--tone); }}"
        for state, s in STATES.items()
    )
    workloads = "\n".join(
        f".gf .t-w{index} {{ background-color: light-dark({light}, {dark}); }}"
        for index, (light, dark) in enumerate(WORKLOADS)
    )
    template = environment().get_template("style.css")
    return Markup(template.render(state_variables=variables, state_rules=rules, workload_rules=workloads))  # noqa: S704


def part(name: str, **values: object) -> str:
    """One macro of `page_parts.html.j2`, rendered inside the element that carries the style."""
    macro = getattr(environment().get_template("page_parts.html.j2").module, name)
    return f'<div class="gf">{macro(**values)}</div>'


def what_if_part(name: str, /, **values: object) -> str:
    """One macro of `what_if_parts.html.j2`, rendered like those of every page."""
    macro = getattr(environment().get_template("what_if_parts.html.j2").module, name)
    return f'<div class="gf">{macro(**values)}</div>'


def will_it_fit_part(name: str, /, **values: object) -> str:
    """One macro of `will_it_fit_parts.html.j2`, rendered like those of every page."""
    macro = getattr(environment().get_template("will_it_fit_parts.html.j2").module, name)
    return f'<div class="gf">{macro(**values)}</div>'


def source_part(name: str, /, **values: object) -> str:
    """One macro of `source_parts.html.j2`, rendered like those of every page."""
    macro = getattr(environment().get_template("source_parts.html.j2").module, name)
    return f'<div class="gf">{macro(**values)}</div>'


def render(template: str, values: Mapping[str, object]) -> str:
    """A whole template."""
    return environment().get_template(template).render(**values)
