//! Times and spans as `kubectl` shows them.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The time since `then`; `<unknown>` if there is none.
pub(super) fn since(then: Option<&str>) -> String {
    then.and_then(|then| then.parse::<Timestamp>().ok())
        .map_or_else(|| "<unknown>".to_owned(), |then| human(Timestamp::now().as_second() - then.as_second()))
}

/// The time between two moments, up to now if the second is missing; `None` without the first.
pub(super) fn between(start: Option<&str>, end: Option<&str>) -> Option<String> {
    let start = start?.parse::<Timestamp>().ok()?;
    let end = end.and_then(|end| end.parse::<Timestamp>().ok()).unwrap_or_else(Timestamp::now);
    Some(human(end.as_second() - start.as_second()))
}

/// The one or two largest units of a span; apimachinery's `HumanDuration`.
fn human(seconds: i64) -> String {
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => pair(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => pair(s / HOUR, "h", s / MINUTE % 60, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => pair(s / DAY, "d", s / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => pair(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY, HOUR, MINUTE, YEAR, human};

    #[test]
    fn spans_are_shown_by_their_largest_units() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (2 * MINUTE, "2m"),
            (2 * MINUTE + 5, "2m5s"),
            (11 * MINUTE + 5, "11m"),
            (3 * HOUR + 20 * MINUTE, "3h20m"),
            (9 * HOUR + 20 * MINUTE, "9h"),
            (2 * DAY + 3 * HOUR, "2d3h"),
            (30 * DAY, "30d"),
            (3 * YEAR, "3y"),
            (-5, "<invalid>"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
    }
}
