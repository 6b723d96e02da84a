"""Sphinx configuration. ``python -m sphinx -W docs docs/_build`` builds the pages."""

from __future__ import annotations

from pathlib import Path

import outsample as osp
from outsample.report import estimators_table, protocols_table

project = "outsample"
author = "The outsample developers"
release = version = osp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated", "figures"]
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "sidebar_width": "230px"}

# Tables that are read off the code, for pages to include.
generated = Path(__file__).parent / "_generated"
generated.mkdir(exist_ok=True)
(generated / "estimators.md").write_text(estimators_table() + "\n", encoding="utf-8")
(generated / "protocols.md").write_text(protocols_table() + "\n", encoding="utf-8")
