//! When a limit is reset, read from the sentence in which the CLI tells it.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// The time after `resets` in `text`, in milliseconds since 1970: `resets 3pm (Europe/Berlin)`, `resets at 3:15 AM
/// (UTC)`, `resets Aug 3, 7am (Europe/Zurich)`, or seconds since 1970 as in `usage limit reached|1749924000`.
///
/// A time of day is the next one after `now_ms`; without `now_ms` it has no date and is not told. A time without a
/// zone is UTC, which is what containers have. An unknown zone is no time.
pub(super) fn reset_time(text: &str, now_ms: Option<i64>) -> Option<i64> {
    unix_reset(text).or_else(|| {
        let now = Timestamp::from_millisecond(now_ms?).ok()?;
        text.lines().find_map(|line| clock_reset(line, now)).map(Timestamp::as_millisecond)
    })
}

/// Seconds since 1970 have ten digits from 2001 to 2286.
const UNIX_DIGITS: usize = 10;

fn unix_reset(text: &str) -> Option<i64> {
    let (_, after) = text.split_once("limit reached|")?;
    let digits =
        after.split(|c: char| !c.is_ascii_digit()).next().filter(|digits| digits.len() == UNIX_DIGITS)?;
    digits.parse::<i64>().ok()?.checked_mul(1000)
}

fn clock_reset(line: &str, now: Timestamp) -> Option<Timestamp> {
    let mut words = Reader(after_resets(line)?);
    words.skip_word("at");
    let day = words.month_and_day();
    words.skip_word("at");
    let time = words.time_of_day()?;
    let now = now.to_zoned(words.zone()?);
    let reset = match day {
        Some((month, day)) => next_date(&now, month, day, time)?,
        None => next_time_of_day(&now, time)?,
    };
    Some(reset.timestamp())
}

fn next_time_of_day(now: &Zoned, time: Time) -> Option<Zoned> {
    let zone = now.time_zone();
    let today = now.date().to_datetime(time).to_zoned(zone.clone()).ok()?;
    if today > *now {
        return Some(today);
    }
    now.date().tomorrow().ok()?.to_datetime(time).to_zoned(zone.clone()).ok()
}

/// The date this year, or next year if it is long past: a reset lies hours or days ahead.
fn next_date(now: &Zoned, month: i8, day: i8, time: Time) -> Option<Zoned> {
    let in_year = |year: i16| {
        Date::new(year, month, day).ok()?.to_datetime(time).to_zoned(now.time_zone().clone()).ok()
    };
    match in_year(now.year()) {
        Some(reset) if now.timestamp().duration_since(reset.timestamp()) < SignedDuration::from_hours(24) => {
            Some(reset)
        }
        Some(_) | None => in_year(now.year().checked_add(1)?),
    }
}

/// What follows the word `reset` or `resets`.
fn after_resets(line: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(at) = find_ignoring_case(&line[from..], "reset").map(|at| from + at) {
        let after = &line[at + "reset".len()..];
        let after = after.strip_prefix(['s', 'S']).unwrap_or(after);
        let begins_word = !line[..at].ends_with(|c: char| c.is_alphanumeric());
        if begins_word && after.starts_with([' ', ':', '\u{a0}']) {
            return Some(after);
        }
        from = at + "reset".len();
    }
    None
}

fn find_ignoring_case(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Takes words off the beginning of a text.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', ',', ':', '\u{a0}', '\u{202f}']);
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let end = self.0.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn skip_word(&mut self, word: &str) {
        let before = self.0;
        if !self.word().eq_ignore_ascii_case(word) {
            self.0 = before;
        }
    }

    /// A number of one or two digits.
    fn number(&mut self) -> Option<i8> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let digits = &self.0[..end];
        let number = digits.parse().ok().filter(|_| digits.len() <= 2)?;
        self.0 = &self.0[end..];
        Some(number)
    }

    fn month_and_day(&mut self) -> Option<(i8, i8)> {
        let before = self.0;
        let word = self.word().to_ascii_lowercase();
        let month =
            MONTHS.iter().position(|month| word.starts_with(month)).and_then(|at| i8::try_from(at + 1).ok());
        self.skip_space();
        let day = month.and_then(|month| Some((month, self.number()?)));
        if day.is_none() {
            self.0 = before;
        }
        day
    }

    /// `3pm`, `3:15 AM`, `3 p.m.`, `15:00`.
    fn time_of_day(&mut self) -> Option<Time> {
        self.skip_space();
        let hour = self.number()?;
        let minute = match self.0.strip_prefix(':') {
            Some(rest) => {
                self.0 = rest;
                Some(self.number()?)
            }
            None => None,
        };
        let before = self.0;
        let half = self.word().chars().next().map(|c| c.to_ascii_lowercase());
        let hour = match half {
            Some('a') if (1..=12).contains(&hour) => hour % 12,
            Some('p') if (1..=12).contains(&hour) => hour % 12 + 12,
            Some(_) | None => {
                self.0 = before;
                // Without am or pm only a time with minutes is one.
                minute.map(|_| hour)?
            }
        };
        Time::new(hour, minute.unwrap_or(0), 0, 0).ok()
    }

    /// The zone in parentheses, UTC if there are none.
    fn zone(&mut self) -> Option<TimeZone> {
        let after = self.0.trim_start_matches([' ', '.', 'm', 'M', '\u{a0}', '\u{202f}']);
        let Some(name) = after.strip_prefix('(').and_then(|after| after.split(')').next()) else {
            return Some(TimeZone::UTC);
        };
        zone_named(name.trim())
    }
}

/// Of every zone of the IANA database its rule of today: see `build.rs`.
const ZONES: &str = include_str!(concat!(env!("OUT_DIR"), "/zones.txt"));

fn zone_named(name: &str) -> Option<TimeZone> {
    let mut rules = ZONES.lines().filter_map(|line| line.split_once(' '));
    let (rule, _) =
        rules.find(|(_, names)| names.split(' ').any(|known| known.eq_ignore_ascii_case(name)))?;
    TimeZone::posix(rule).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(text: &str, now: &str) -> Option<String> {
        let now: Timestamp = now.parse().unwrap();
        let reset = reset_time(text, Some(now.as_millisecond()))?;
        Some(Timestamp::from_millisecond(reset).unwrap().to_string())
    }

    #[test]
    fn a_time_of_day_is_read_in_its_zone() {
        let now = "2026-04-22T15:15:00Z";
        for (text, expected) in [
            ("You're out of extra usage · resets 4pm (America/Chicago)", "2026-04-22T21:00:00Z"),
            ("You've hit your session limit - resets at 4pm (America/Chicago).", "2026-04-22T21:00:00Z"),
            ("5-hour limit reached ∙ resets 3pm (Europe/Berlin)", "2026-04-23T13:00:00Z"),
            ("5-hour limit reached ∙ resets 3pm (europe/berlin)", "2026-04-23T13:00:00Z"),
            ("Resets: 11 p.m. (UTC)", "2026-04-22T23:00:00Z"),
            ("resets 18:30 (UTC)", "2026-04-22T18:30:00Z"),
            ("resets 12am", "2026-04-23T00:00:00Z"),
            ("resets 12pm (GMT)", "2026-04-23T12:00:00Z"),
        ] {
            assert_eq!(reset(text, now).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_time_that_has_passed_is_tomorrows() {
        let text = "Usage limit reached. Resets at 3:15 AM (UTC).";
        assert_eq!(reset(text, "2026-04-22T23:30:00Z").unwrap(), "2026-04-23T03:15:00Z");
        assert_eq!(reset(text, "2026-04-22T03:15:00Z").unwrap(), "2026-04-23T03:15:00Z");
        assert_eq!(reset(text, "2026-04-22T03:14:59Z").unwrap(), "2026-04-22T03:15:00Z");
    }

    #[test]
    fn a_date_is_read_with_its_time() {
        let text = "You've hit your weekly limit · resets Aug 3, 7am (Europe/Zurich)";
        assert_eq!(reset(text, "2026-07-30T10:00:00Z").unwrap(), "2026-08-03T05:00:00Z");
        let text = "resets January 2 at 9:30am (America/New_York)";
        assert_eq!(reset(text, "2026-12-30T10:00:00Z").unwrap(), "2027-01-02T14:30:00Z");
        assert_eq!(reset("resets Feb 30, 7am (UTC)", "2026-01-01T00:00:00Z"), None);
        // Up to a day ago it is this year's.
        let text = "resets Aug 3, 7am (UTC)";
        assert_eq!(reset(text, "2026-08-04T06:59:59Z").unwrap(), "2026-08-03T07:00:00Z");
        assert_eq!(reset(text, "2026-08-04T07:00:00Z").unwrap(), "2027-08-03T07:00:00Z");
    }

    #[test]
    fn every_zone_has_a_rule() {
        let names: Vec<&str> = ZONES.lines().flat_map(|line| line.split(' ').skip(1)).collect();
        assert!(names.len() > 500, "{}", names.len());
        for name in names {
            assert!(zone_named(name).is_some(), "{name}");
        }
        let noon: Timestamp = "2026-01-15T12:00:00Z".parse().unwrap();
        for (name, hour) in
            [("UTC", 12), ("Asia/Kolkata", 17), ("America/St_Johns", 8), ("Australia/Sydney", 23)]
        {
            assert_eq!(noon.to_zoned(zone_named(name).unwrap()).hour(), hour, "{name}");
        }
    }

    #[test]
    fn a_gap_of_summer_time_is_stepped_over() {
        assert_eq!(
            reset("resets 2:30am (Europe/Berlin)", "2026-03-28T12:00:00Z").unwrap(),
            "2026-03-29T01:30:00Z"
        );
    }

    #[test]
    fn seconds_since_1970_need_no_clock() {
        assert_eq!(reset_time("Claude AI usage limit reached|1749924000", None), Some(1_749_924_000_000));
        assert_eq!(reset_time("limit reached|12", None), None);
    }

    #[test]
    fn what_tells_no_time_is_none() {
        for text in [
            "Overloaded. Try again later.",
            "resets soon",
            "resets 25pm",
            "resets 13am",
            "resets 3",
            "resets 3pm (Middle-earth/Shire)",
            "resets 3pm ()",
            "preset 3pm",
            "resets",
            "resets 99:99",
            "",
        ] {
            assert_eq!(reset(text, "2026-04-22T15:15:00Z"), None, "{text}");
        }
        assert_eq!(reset_time("resets 3pm (UTC)", None), None);
    }
}
