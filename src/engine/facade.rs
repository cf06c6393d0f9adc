//! The store's numbers as they go to the `metrics` facade: their names, and one handle for each.
//!
//! The handles are had from the recorder when the store is opened; a number that changes later is one call of a handle,
//! on the thread that counts it, and allocates nothing. `docs/metrics.md` lists the names.

use metrics::{Counter, Gauge, Histogram, Unit};

/// One handle a number.
pub(crate) struct Facade {
    pub(crate) submissions: Counter,
    pub(crate) groups: Counter,
    pub(crate) events: Counter,
    pub(crate) bytes: Counter,
    pub(crate) group_events: Histogram,
    pub(crate) sync_seconds: Histogram,
    pub(crate) hint_failures: Counter,
    pub(crate) segments_sealed: Counter,
    pub(crate) clock_behind_seconds: Gauge,
    pub(crate) queue_depth: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) position: Gauge,
    pub(crate) durable_position: Gauge,
    pub(crate) segments: Gauge,
    pub(crate) unsealed_segments: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) poisoned: Gauge,
    pub(crate) last_snapshot_seconds: Gauge,
}

impl Facade {
    /// Asks the recorder for the handles of the store at `place`, which is their label `store`.
    pub(crate) fn of(place: &str) -> Self {
        let counter = |name: &'static str, unit, text: &'static str| {
            metrics::describe_counter!(name, unit, text);
            metrics::counter!(name, "store" => place.to_owned())
        };
        let gauge = |name: &'static str, unit, text: &'static str| {
            metrics::describe_gauge!(name, unit, text);
            metrics::gauge!(name, "store" => place.to_owned())
        };
        let histogram = |name: &'static str, unit, text: &'static str| {
            metrics::describe_histogram!(name, unit, text);
            metrics::histogram!(name, "store" => place.to_owned())
        };
        let facade = Self {
            submissions: counter("quipu_submissions_total", Unit::Count, "submissions"),
            groups: counter("quipu_groups_total", Unit::Count, "groups written"),
            events: counter("quipu_events_total", Unit::Count, "events written"),
            bytes: counter(
                "quipu_bytes_total",
                Unit::Bytes,
                "bytes of the groups written",
            ),
            group_events: histogram("quipu_group_events", Unit::Count, "events in a group"),
            sync_seconds: histogram("quipu_sync_seconds", Unit::Seconds, "how long a sync took"),
            hint_failures: counter(
                "quipu_hint_failures_total",
                Unit::Count,
                "hints that could not be written",
            ),
            segments_sealed: counter(
                "quipu_segments_sealed_total",
                Unit::Count,
                "segments sealed",
            ),
            clock_behind_seconds: gauge("quipu_clock_behind_seconds", Unit::Seconds, "clock's lag"),
            queue_depth: gauge("quipu_queue_depth", Unit::Count, "submissions that wait"),
            waiting: gauge(
                "quipu_waiting",
                Unit::Count,
                "cursors and subscriptions that wait",
            ),
            position: gauge("quipu_position", Unit::Count, "the last visible position"),
            durable_position: gauge(
                "quipu_durable_position",
                Unit::Count,
                "the last position known durable",
            ),
            segments: gauge("quipu_segments", Unit::Count, "segments"),
            unsealed_segments: gauge(
                "quipu_unsealed_segments",
                Unit::Count,
                "full segments that wait to be sealed",
            ),
            log_bytes: gauge("quipu_log_bytes", Unit::Bytes, "the length of the log"),
            poisoned: gauge(
                "quipu_poisoned",
                Unit::Count,
                "1 once the writer refuses, else 0",
            ),
            last_snapshot_seconds: gauge(
                "quipu_last_snapshot_seconds",
                Unit::Seconds,
                "when the last snapshot was finished, since 1970",
            ),
        };
        facade.poisoned.set(0);
        facade.unsealed_segments.set(0);
        facade
    }
}

impl std::fmt::Debug for Facade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Facade")
    }
}
