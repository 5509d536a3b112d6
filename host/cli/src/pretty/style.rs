//! Colours. `anstream` removes them if the output is not a terminal.

use anstyle::{AnsiColor, Style};
use paperclip_prepare::transcript::Palette;

pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(crate) const SUCCESS: Style = AnsiColor::Green.on_default().bold();
pub(crate) const TOOL: Style = AnsiColor::Cyan.on_default();
pub(crate) const HEADING: Style = AnsiColor::Blue.on_default().bold();
pub(crate) const DIM: Style = Style::new().dimmed();

/// The colours of a transcript.
pub(crate) const PALETTE: Palette =
    Palette { heading: HEADING, tool: TOOL, success: SUCCESS, warning: WARNING, error: ERROR, dim: DIM };
