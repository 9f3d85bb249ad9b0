use chrono_tz::{America::New_York, Australia::Lord_Howe, Europe::Warsaw, UTC};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn next(cron: &str, zone: Tz, after: &str) -> String {
    let cron: Cron = cron.parse().unwrap();
    cron.next_after(at(after), zone)
        .map_or("never".to_owned(), |t| t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

#[test]
fn next_activation() {
    for (cron, after, expected) in [
        ("30 2 * * *", "2026-03-02T02:29:59Z", "2026-03-02T02:30:00Z"),
        ("30 2 * * *", "2026-03-02T02:30:00Z", "2026-03-03T02:30:00Z"),
        ("30 2 * * *", "2026-03-02T02:29:59.999Z", "2026-03-02T02:30:00Z"),
        ("30 2 * * *", "2026-03-02T02:30:00.001Z", "2026-03-03T02:30:00Z"),
        ("* * * * *", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"),
        ("*/15 * * * *", "2026-03-02T02:15:00Z", "2026-03-02T02:30:00Z"),
        ("5/20 * * * *", "2026-03-02T02:26:00Z", "2026-03-02T02:45:00Z"),
        ("10 30 4 * * *", "2026-03-02T00:00:00Z", "2026-03-02T04:30:10Z"),
        ("*/5 * * * * *", "2026-03-02T00:00:01Z", "2026-03-02T00:00:05Z"),
        ("0 23 * * SAT", "2026-03-02T00:00:00Z", "2026-03-07T23:00:00Z"),
        ("0 23 * * sat", "2026-03-07T23:00:00Z", "2026-03-14T23:00:00Z"),
        ("0 0 * * 0", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00Z"),
        ("0 0 * jan,Jul ?", "2026-03-02T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("15 14 1 */3 *", "2026-03-02T00:00:00Z", "2026-04-01T14:15:00Z"),
        ("0 0 31 * *", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"),
        ("0 0 29 2 *", "2026-03-02T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 30 2 *", "2026-03-02T00:00:00Z", "never"),
        // Both day fields restricted: either; a star with a step restricts.
        ("20 5 1-7 * SUN", "2026-03-07T06:00:00Z", "2026-03-08T05:20:00Z"),
        ("20 5 1-7 * SUN", "2026-03-29T06:00:00Z", "2026-04-01T05:20:00Z"),
        ("0 0 */31 * 3", "2026-03-02T00:00:00Z", "2026-03-04T00:00:00Z"),
        ("0 0 ? * 3", "2026-03-02T00:00:00Z", "2026-03-04T00:00:00Z"),
        ("@yearly", "2026-03-02T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-03-02T00:00:00Z", "2026-04-01T00:00:00Z"),
        ("@weekly", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00Z"),
        ("@midnight", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"),
        ("@hourly", "2026-03-02T00:00:00Z", "2026-03-02T01:00:00Z"),
        ("@every 90m", "2026-03-02T00:00:00.7Z", "2026-03-02T01:30:00Z"),
        ("@every 7d", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"),
        ("@every 1ms", "2026-03-02T00:00:00.7Z", "2026-03-02T00:00:01Z"),
        ("@every 15s", "2026-03-02T00:00:00Z", "2026-03-02T00:00:15Z"),
        ("TZ=America/New_York 0 2 * * *", "2026-01-02T00:00:00Z", "2026-01-02T07:00:00Z"),
        ("CRON_TZ=Europe/Warsaw 0 2 * * *", "2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z"),
    ] {
        assert_eq!(next(cron, UTC, after), expected, "{cron} after {after}");
    }
}

#[test]
fn clock_changes() {
    for (cron, zone, after, expected) in [
        // Warsaw puts the clock forward on 2026-03-29 at 01:00Z (02:00 -> 03:00).
        ("30 2 * * *", Warsaw, "2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z"),
        ("30 2 * * *", Warsaw, "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
        ("30 2 * * *", Warsaw, "2026-03-29T01:10:00Z", "2026-03-29T01:30:00Z"),
        ("30 3 * * *", Warsaw, "2026-03-28T02:30:00Z", "2026-03-29T01:30:00Z"),
        ("0 3 * * *", Warsaw, "2026-03-28T03:00:00Z", "2026-03-29T01:00:00Z"),
        // Every hour: elapsed time, nothing extra.
        ("30 * * * *", Warsaw, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
        ("*/15 * * * *", Warsaw, "2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z"),
        // ... and back on 2026-10-25 at 01:00Z (03:00 -> 02:00).
        ("30 2 * * *", Warsaw, "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z"),
        ("30 2 * * *", Warsaw, "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ("30 2 * * *", Warsaw, "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"),
        ("30 * * * *", Warsaw, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ("30 * * * *", Warsaw, "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"),
        ("*/15 * * * *", Warsaw, "2026-10-25T00:45:00Z", "2026-10-25T01:00:00Z"),
        ("0 4 * * *", Warsaw, "2026-10-24T02:00:00Z", "2026-10-25T03:00:00Z"),
        // New York: forward 2026-03-08 07:00Z, back 2026-11-01 06:00Z.
        ("30 2 * * *", New_York, "2026-03-07T07:30:00Z", "2026-03-08T07:30:00Z"),
        ("30 2 * * *", New_York, "2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"),
        ("30 1 * * *", New_York, "2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z"),
        ("30 1 * * *", New_York, "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"),
        // Half an hour: Lord Howe, forward 2026-10-03 15:30Z (02:00 -> 02:30).
        ("15 2 * * *", Lord_Howe, "2026-10-03T00:00:00Z", "2026-10-03T15:45:00Z"),
    ] {
        assert_eq!(next(cron, zone, after), expected, "{cron} in {zone} after {after}");
    }
}

#[test]
fn faults_are_named() {
    for (cron, message) in [
        ("bad", "expected 5 to 6 fields, found 1: [bad]"),
        ("", "expected 5 to 6 fields, found 0: []"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("0 0 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("0 0 L * *", "failed to parse int from \"L\": L"),
        ("0 0 * * MON#1", "failed to parse int from \"MON#1\": MON#1"),
        ("-1 * * * *", "failed to parse int from \"\": -1"),
        ("1,,2 * * * *", "failed to parse int from \"\": "),
        ("99999999999 * * * *", "failed to parse int from \"99999999999\": 99999999999"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every x", "failed to parse duration @every x: time: invalid duration x"),
        ("@every 0s", "failed to parse duration @every 0s: the period must be positive"),
        ("@every -1h", "failed to parse duration @every -1h: the period must be positive"),
        ("TZ=Mars/Base 0 0 * * *", "provided bad location Mars/Base: unknown time zone"),
        ("TZ=UTC", "expected 5 to 6 fields, found 0: []"),
    ] {
        assert_eq!(cron.parse::<Cron>().unwrap_err().to_string(), message, "{cron}");
    }
}

/// All activations in `from..to`, found by looking at every minute of the local and the real clock.
fn by_brute_force(
    minutes: &[u32],
    hours: Option<&[u32]>,
    zone: Tz,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let minute = TimeDelta::minutes(1);
    let mut found = std::collections::BTreeSet::new();
    match hours {
        None => {
            let mut t = from + minute;
            while t <= to {
                if minutes.contains(&local(t, zone).minute()) {
                    found.insert(t);
                }
                t += minute;
            }
        }
        Some(hours) => {
            let mut t = local(from, zone) - TimeDelta::days(1);
            while t < local(to, zone) + TimeDelta::days(1) {
                if hours.contains(&t.hour()) && minutes.contains(&t.minute()) {
                    found.insert(instant_of_local(t, zone));
                }
                t += minute;
            }
        }
    }
    found.into_iter().filter(|t| *t > from && *t <= to).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_a_search_of_every_minute(
        minutes in proptest::collection::btree_set(0_u32..60, 1..4),
        hours in proptest::option::of(proptest::collection::btree_set(0_u32..6, 1..4)),
        zone in proptest::sample::select(vec![Warsaw, New_York, Lord_Howe, UTC]),
        day in proptest::sample::select(vec!["2026-03-28", "2026-03-07", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]),
        offset_minutes in 0_i64..1440,
    ) {
        let join = |set: &std::collections::BTreeSet<u32>| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let hour_field = hours.as_ref().map_or("*".to_owned(), join);
        let cron: Cron = format!("{} {hour_field} * * *", join(&minutes)).parse().unwrap();
        let from = at(&format!("{day}T00:00:00Z")) + TimeDelta::minutes(offset_minutes);
        let to = from + TimeDelta::hours(36);

        let mut actual = vec![];
        let mut after = from;
        while let Some(t) = cron.next_after(after, zone).filter(|t| *t <= to) {
            actual.push(t);
            after = t;
        }

        let minutes: Vec<u32> = minutes.into_iter().collect();
        let hours: Option<Vec<u32>> = hours.map(|h| h.into_iter().collect());
        prop_assert_eq!(actual, by_brute_force(&minutes, hours.as_deref(), zone, from, to));
    }

    #[test]
    fn never_panics(text in "[-*?/,@0-9A-Z ]{0,24}") {
        if let Ok(cron) = text.parse::<Cron>() {
            let after = at("2026-03-02T00:00:00Z");
            prop_assert!(cron.next_after(after, Warsaw).is_none_or(|t| t > after));
        }
    }
}
