r"""Formulas as MathML, which browsers draw without a script or a network.

docutils converts each formula when the pages are built; one that it cannot convert is a
warning, and so an error of the build.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def write(translator, node):
    r"""Write one formula; docutils knows ``\ldots`` and not ``\dots``."""
    tex = node.astext().replace(r"\dots", r"\ldots")
    block = isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(tex, as_block=block)
    except MathError as error:
        logger.warning("no MathML of %r: %s", tex, error, location=node)
        formula = f"<code>{translator.encode(tex)}</code>"
    start = translator.starttag(
        node, "div" if block else "span", "", CLASS="math notranslate nohighlight"
    )
    translator.body.append(f"{start}{formula}</{'div' if block else 'span'}>")
    raise nodes.SkipNode


def setup(app):
    """Add the renderer; ``html_math_renderer`` in ``conf.py`` selects it."""
    app.add_html_math_renderer("mathml", (write, None), (write, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
