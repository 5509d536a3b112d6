//! Formats figures for people.

use std::time::Duration;

/// Formats a duration with three figures at most: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // From here on, rounding to whole seconds gives 10 or more.
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = time.as_millis().saturating_add(500) / 1000;
    match whole / 60 {
        0 => format!("{whole} s"),
        minutes => format!("{minutes} min {:02} s", whole % 60),
    }
}

/// Formats a size: bytes below 1 KiB, KiB below 1 MiB, MiB above.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let exact = bytes as f64;
    if bytes < 1024 {
        format!("{bytes} B")
    } else if exact < KIB * KIB {
        format!("{:.1} KiB", exact / KIB)
    } else {
        format!("{:.1} MiB", exact / (KIB * KIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_figures_at_most() {
        let shown = |milliseconds| duration(Duration::from_millis(milliseconds));
        assert_eq!(shown(0), "0.0 s");
        assert_eq!(shown(449), "0.4 s");
        assert_eq!(shown(9_960), "10 s");
        assert_eq!(shown(59_600), "1 min 00 s");
        assert_eq!(shown(185_000), "3 min 05 s");
    }

    #[test]
    fn sizes_use_binary_units() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(223_232), "218.0 KiB");
        assert_eq!(size(3 << 20), "3.0 MiB");
    }
}
