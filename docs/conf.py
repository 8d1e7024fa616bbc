"""The documentation: `sphinx-build -W docs docs/_build`.  It needs no network, neither to be built nor to be read."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# what is built describes the sources beside it, not an installed copy
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "demos")]
# the width of the --help that the command line's page shows, and no bars in what the demos print
os.environ |= {"COLUMNS": "110", "NO_COLOR": "1", "TQDM_DISABLE": "1"}

from minivae.version import VERSION  # noqa: E402

project, author, release, version = "minivae", "the authors of minivae", VERSION, VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_gallery.gen_gallery", "builders", "gallery", "live"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_math_renderer = "mathml"

# strings for functions: Sphinx stores its settings; -D sphinx_gallery_conf.run_stale_examples=0 keeps the pages of unchanged scripts
sphinx_gallery_conf = {
    "examples_dirs": "../demos",
    "gallery_dirs": "demos",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(?<!\w)(stage|photos)\.py$",
    "within_subsection_order": "gallery.place",
    "reset_argv": "gallery.arguments",
    "image_scrapers": "gallery.figures",
    "reset_modules": (),
    "run_stale_examples": True,  # the library may have changed
    "abort_on_example_error": True,
    "notebook_extensions": {".py"},
    "download_all_examples": False,
    "inspect_global_variables": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "show_signature": False,
    "css": (),
}

autodoc_member_order = "bysource"
autodoc_docstring_signature = False
autodoc_typehints_format = "short"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"minivae {VERSION}"
html_static_path = ["_static"]
html_css_files = ["minivae.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
