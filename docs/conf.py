"""The site: `make site` builds it from the committed notebooks and pages, offline.

SITE_REPOSITORY (https://github.com/OWNER/NAME) adds links to edit a page and to open a
notebook in Colab and Binder; without it a page can be read and downloaded.
"""

import os

project = "A workbook for speech emotion recognition"
author = "The authors of the speech emotion workbook"
copyright = author
# The last brings MathJax along, so that formulas appear without a network.
extensions = ["myst_nb", "sphinxcontrib.bibtex", "sphinx.ext.mathjax"]
extensions += ["sphinx-mathjax-offline"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "notebooks/*.ipynb",
    "notebooks/recipes/README.md",
    "Datasets/README.md",
    "CONTRIBUTING.md",
]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # what was rendered and checked is shown
html_theme = "sphinx_book_theme"
html_title = project
html_baseurl = os.environ.get("SITE_ADDRESS", "")
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = ["mermaid.min.js", "site.js"]
html_copy_source = True
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {"use_download_button": True, "show_toc_level": 2}
if repository := os.environ.get("SITE_REPOSITORY"):
    html_theme_options |= {
        "repository_url": repository,
        "repository_branch": "main",
        "use_edit_page_button": True,
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    }
# Links to folders and to files that are no pages are for readers of the repository.
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type"]
suppress_warnings += ["misc.highlighting_failure"]  # Mermaid is drawn by the browser
