"""Every picture of the ptycho panel. Plain matplotlib Figures: no window opens and no global state changes."""

from diptych.runtime.plotting import load_matplotlib

load_matplotlib()
