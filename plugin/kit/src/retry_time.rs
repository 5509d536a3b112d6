//! When a provider serves again, read from the sentence in which the CLI says so.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// A reset further ahead is not one.
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(35 * 24);

/// Returns the time that `text` names, in milliseconds since 1970: `resets 3pm (Europe/Berlin)`, `resets Dec 3 at 2pm
/// (Europe/Zurich)`, `resets Dec 8`, `regain access on 2026-12-01 at 00:00 UTC`, `try again in 6h0m0s`, `retry after 30`, or seconds
/// since 1970 as in `usage limit reached|1749924000`.
///
/// A time of day is the next one after `now_ms`; without `now_ms` only seconds since 1970 are a time. A time of day without a zone is
/// UTC, which is what containers have, and so is a date alone. A date and a time without a zone are not used, nor is an unknown zone.
pub fn reset_time(text: &str, now_ms: Option<i64>) -> Option<i64> {
    let named = unix_reset(text).or_else(|| {
        let now = Timestamp::from_millisecond(now_ms?).ok()?;
        text.lines().find_map(|line| reset_on_line(line, now)).map(Timestamp::as_millisecond)
    });
    named.filter(|at_ms| usable(*at_ms, now_ms))
}

/// Whether a reset is neither in the past nor too far ahead to be one.
pub fn usable(at_ms: i64, now_ms: Option<i64>) -> bool {
    let max_ahead_ms = i64::try_from(MAX_AHEAD.as_millis()).unwrap_or(i64::MAX);
    now_ms.is_none_or(|now_ms| (now_ms..=now_ms.saturating_add(max_ahead_ms)).contains(&at_ms))
}

/// Seconds since 1970 have ten digits from 2001 to 2286.
const UNIX_DIGITS: usize = 10;

fn unix_reset(text: &str) -> Option<i64> {
    let (_, after) = text.split_once("limit reached|")?;
    let digits =
        after.split(|c: char| !c.is_ascii_digit()).next().filter(|digits| digits.len() == UNIX_DIGITS)?;
    digits.parse::<i64>().ok()?.checked_mul(1000)
}

/// How a time is announced. A phrase comes before those that are its prefix.
const ANNOUNCEMENTS: [(&str, Kind); 10] = [
    ("resets", Kind::Moment),
    ("reset", Kind::Moment),
    ("regain access", Kind::Moment),
    ("try again", Kind::Moment),
    ("retry after", Kind::Seconds),
    ("retry-after", Kind::Seconds),
    ("retry_after", Kind::Seconds),
    ("retry in", Kind::Seconds),
    ("try again after", Kind::Seconds),
    ("available again", Kind::Moment),
];

/// What follows an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A moment, or `in` and a duration.
    Moment,
    /// A duration, in seconds if it has no unit.
    Seconds,
}

fn reset_on_line(line: &str, now: Timestamp) -> Option<Timestamp> {
    ANNOUNCEMENTS.iter().find_map(|(words, kind)| {
        let mut reader = Reader(after_words(line, words)?);
        match kind {
            Kind::Seconds => after(now, reader.duration(true)?),
            Kind::Moment if reader.skip_word("in") => after(now, reader.duration(false)?),
            Kind::Moment => reader.moment(now),
        }
    })
}

fn after(now: Timestamp, duration: SignedDuration) -> Option<Timestamp> {
    now.checked_add(duration).ok()
}

fn next_time_of_day(now: &Zoned, time: Time) -> Option<Zoned> {
    let zone = now.time_zone();
    let today = now.date().to_datetime(time).to_zoned(zone.clone()).ok()?;
    if today > *now {
        return Some(today);
    }
    now.date().tomorrow().ok()?.to_datetime(time).to_zoned(zone.clone()).ok()
}

/// The date this year, or next year if it is long past: a reset is hours or days ahead.
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

/// What follows `words`, which start a word, at their first place with something behind them.
fn after_words<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let mut from = 0;
    while let Some(at) = find_ignoring_case(&line[from..], words).map(|at| from + at) {
        let after = &line[at + words.len()..];
        let starts_word = !line[..at].ends_with(|c: char| c.is_alphanumeric());
        if starts_word && after.starts_with([' ', ':', '=', '"', '\u{a0}']) {
            return Some(after);
        }
        from = at + words.len();
    }
    None
}

fn find_ignoring_case(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// A calendar day as a text names it.
#[derive(Debug, Clone, Copy)]
enum Day {
    /// In this year or the next.
    OfYear {
        month: i8,
        day: i8,
    },
    Date(Date),
}

/// The zone that a text names.
enum Zone {
    None,
    Known(TimeZone),
    Unknown,
}

/// Takes words off the start of a text.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', ',', ':', '=', '"', '\u{a0}', '\u{202f}']);
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let end = self.0.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    /// Takes `word`, if it is the next one.
    fn skip_word(&mut self, word: &str) -> bool {
        let before = self.0;
        let is_next = self.word().eq_ignore_ascii_case(word);
        if !is_next {
            self.0 = before;
        }
        is_next
    }

    /// A number of at most `max_digits` digits.
    fn number(&mut self, max_digits: usize) -> Option<i16> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let digits = &self.0[..end];
        let number = digits.parse().ok().filter(|_| digits.len() <= max_digits)?;
        self.0 = &self.0[end..];
        Some(number)
    }

    /// Reads with `read`, or nothing.
    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.0;
        let result = read(self);
        if result.is_none() {
            self.0 = before;
        }
        result
    }

    fn moment(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.skip_word("at");
        self.skip_word("on");
        let day = self.attempt(Self::date).or_else(|| self.attempt(Self::month_and_day));
        self.skip_word("at");
        if day.is_some() {
            self.skip_word("t");
        }
        let time = self.attempt(Self::time_of_day);
        let zone = self.zone();
        let zone = match zone {
            Zone::Known(zone) => zone,
            Zone::Unknown => return None,
            Zone::None if day.is_some() && time.is_some() => return None,
            Zone::None => TimeZone::UTC,
        };
        let now = now.to_zoned(zone);
        let reset = match (day, time) {
            (Some(Day::OfYear { month, day }), time) => {
                next_date(&now, month, day, time.unwrap_or(Time::midnight()))
            }
            (Some(Day::Date(date)), time) => {
                let time = time.unwrap_or(Time::midnight());
                date.to_datetime(time).to_zoned(now.time_zone().clone()).ok()
            }
            (None, time) => next_time_of_day(&now, time?),
        };
        reset.map(|reset| reset.timestamp())
    }

    /// `2026-12-01`.
    fn date(&mut self) -> Option<Day> {
        self.skip_space();
        let year = self.number(4).filter(|year| *year >= 1970)?;
        let mut part = || {
            self.0 = self.0.strip_prefix('-')?;
            self.number(2).and_then(|number| i8::try_from(number).ok())
        };
        let (month, day) = (part()?, part()?);
        Date::new(year, month, day).ok().map(Day::Date)
    }

    /// `Dec 8`, `December 8`, `Dec 8, 2026`.
    fn month_and_day(&mut self) -> Option<Day> {
        let word = self.word().to_ascii_lowercase();
        let month = MONTHS.iter().position(|month| word.starts_with(month))?;
        let month = i8::try_from(month + 1).ok()?;
        self.skip_space();
        let day = i8::try_from(self.number(2)?).ok()?;
        let year = self.attempt(|reader| {
            reader.skip_space();
            reader.number(4).filter(|year| *year >= 1970)
        });
        match year {
            Some(year) => Date::new(year, month, day).ok().map(Day::Date),
            None => Some(Day::OfYear { month, day }),
        }
    }

    /// `3pm`, `3:15 AM`, `3 p.m.`, `15:00`, `15:00:00`.
    fn time_of_day(&mut self) -> Option<Time> {
        self.skip_space();
        let hour = i8::try_from(self.number(2)?).ok()?;
        let mut part = || {
            let rest = self.0.strip_prefix(':')?;
            self.0 = rest;
            self.number(2).and_then(|number| i8::try_from(number).ok())
        };
        let (minute, second) = (part(), part());
        if self.0.starts_with('.') && second.is_some() {
            self.0 = self.0[1..].trim_start_matches(|c: char| c.is_ascii_digit());
        }
        let before = self.0;
        let half = self.word().to_ascii_lowercase();
        let hour = match half.as_str() {
            "am" | "a" if (1..=12).contains(&hour) => hour % 12,
            "pm" | "p" if (1..=12).contains(&hour) => hour % 12 + 12,
            _ => {
                self.0 = before;
                // Without am or pm only a time with minutes is one.
                minute.map(|_| hour)?
            }
        };
        Time::new(hour, minute.unwrap_or(0), second.unwrap_or(0), 0).ok()
    }

    /// The zone in parentheses, or the word `UTC`.
    fn zone(&mut self) -> Zone {
        let after = self.0.trim_start_matches([' ', '.', 'm', 'M', '\u{a0}', '\u{202f}']);
        if let Some(name) = after.strip_prefix('(').and_then(|after| after.split(')').next()) {
            return zone_named(name.trim()).map_or(Zone::Unknown, Zone::Known);
        }
        match self.word() {
            "UTC" | "GMT" | "Z" => Zone::Known(TimeZone::UTC),
            _ => Zone::None,
        }
    }

    /// `2.5s`, `6h0m0s`, `3 minutes`, `1 hour 30 minutes`; without a unit seconds, if that is allowed.
    fn duration(&mut self, may_lack_unit: bool) -> Option<SignedDuration> {
        let mut seconds: Option<f64> = None;
        loop {
            self.skip_space();
            let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
            let Ok(number) = self.0[..end].trim_end_matches('.').parse::<f64>() else { break };
            self.0 = &self.0[end..];
            let before = self.0;
            let unit = match self.word().to_ascii_lowercase().as_str() {
                "ms" | "millisecond" | "milliseconds" => 0.001,
                "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
                "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
                "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
                "d" | "day" | "days" => 86_400.0,
                _ if may_lack_unit && seconds.is_none() => {
                    self.0 = before;
                    1.0
                }
                _ => break,
            };
            seconds = Some(seconds.unwrap_or(0.0) + number * unit);
            self.skip_word("and");
        }
        SignedDuration::try_from_secs_f64(seconds?).ok()
    }
}

/// Today's rule of every zone of the IANA database: see `build.rs`.
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
    fn a_time_of_day_that_has_passed_is_tomorrows() {
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
        // Up to a day ago it is this year's, which is in the past.
        let text = "resets Jan 3, 7am (UTC)";
        assert_eq!(reset(text, "2026-01-04T06:59:59Z"), None);
        assert_eq!(reset(text, "2026-12-31T00:00:00Z").unwrap(), "2027-01-03T07:00:00Z");
    }

    #[test]
    fn a_date_alone_is_its_midnight() {
        let now = "2026-11-29T21:20:00Z";
        for (text, expected) in [
            ("spend limit reached · resets Dec 8 · request an increase", Some("2026-12-08T00:00:00Z")),
            ("resets Dec 8 (Europe/Berlin)", Some("2026-12-07T23:00:00Z")),
            ("resets Dec 3 at 2pm (America/New_York)", Some("2026-12-03T19:00:00Z")),
            ("resets Dec 3, 2026 at 2pm (UTC)", Some("2026-12-03T14:00:00Z")),
            ("You will regain access on 2026-12-01 at 00:00 UTC.", Some("2026-12-01T00:00:00Z")),
            ("resets 2026-12-01T10:30:00Z", Some("2026-12-01T10:30:00Z")),
            ("Your limit will reset at 2026-11-30 03:15:00", None),
            ("resets Dec 3 at 2pm", None),
            ("Your limit will reset at 2026-11-30 03:15:00 UTC", Some("2026-11-30T03:15:00Z")),
        ] {
            assert_eq!(reset(text, now).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_is_counted_from_now() {
        let now = "2026-11-29T00:00:00Z";
        for (text, expected) in [
            ("Please try again in 2.5s.", Some("2026-11-29T00:00:02.5Z")),
            ("try again in 6h0m0s", Some("2026-11-29T06:00:00Z")),
            ("Try again in 3 minutes", Some("2026-11-29T00:03:00Z")),
            ("try again in 1 hour and 30 minutes", Some("2026-11-29T01:30:00Z")),
            ("Suggested retry after 21600s", Some("2026-11-29T06:00:00Z")),
            ("retry-after: 30", Some("2026-11-29T00:00:30Z")),
            ("resets in 2d", Some("2026-12-01T00:00:00Z")),
            ("try again in a moment", None),
            ("try again in 40 days", None),
            ("try again later", None),
        ] {
            assert_eq!(reset(text, now).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_reset_is_neither_past_nor_far_ahead() {
        let at = |seconds: i64, now_ms: i64| {
            reset_time(&format!("limit reached|{seconds}"), Some(now_ms)).is_some()
        };
        let now = 1_749_924_000;
        assert!(at(now, now * 1000) && !at(now, now * 1000 + 1));
        let far = now + 35 * 24 * 3_600;
        assert!(at(far, now * 1000) && !at(far + 1, now * 1000));
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
    fn skips_a_gap_of_summer_time() {
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
    fn is_none_without_a_time() {
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
