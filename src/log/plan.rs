//! Judges the end of the log: a pure function from what was seen to what must be done.
//!
//! It is the decision table of `docs/architecture.md`, row by row: a torn tail is cut, damage under acknowledged data
//! never is. Nothing here reads or writes.

use crate::log::scan::Mark;

/// What follows the last valid group of the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Zeros, or the end of the file.
    Blank,
    /// Something that is no group continuing the log.
    Damaged {
        /// Whether it looks like a write that did not finish.
        shape: Shape,
        /// How many valid group headers stand behind it.
        later_groups: u32,
        /// The furthest place that those headers say was durable.
        later_synced: Mark,
        /// The end of the last byte that is not zero.
        used_end: u64,
    },
}

/// How the first invalid group looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The file ends in it, or a sector of it or its last byte is zero: a write cut short.
    Torn,
    /// Its full extent is there, and it is wrong.
    Whole,
}

/// All that is known of the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailEvidence {
    /// The newest segment's number.
    pub(crate) segment: u64,
    /// Whether its header is valid; else it is absent, zero or torn.
    pub(crate) header_valid: bool,
    /// The offset behind its last valid group.
    pub(crate) valid_end: u64,
    /// What follows.
    pub(crate) rest: Rest,
    /// The furthest place known durable from hint, checkpoint and valid groups.
    pub(crate) durable: Mark,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Keep everything; bytes from this offset on may not be on the disk yet.
    Keep {
        /// Where unproven bytes begin.
        rewrite_from: u64,
    },
    /// Take `at..until` away, and keep the rest as in `Keep`.
    Cut {
        /// Where the tail is cut.
        at: u64,
        /// The end of what must be zeroed.
        until: u64,
        /// Where unproven bytes begin.
        rewrite_from: u64,
        /// How many unacknowledged groups behind the cut go with it.
        later_groups: u32,
    },
    /// The segment was being made when the process or the power stopped: remove it.
    RemoveNewest,
    /// Do not open: acknowledged data is missing or damaged.
    Refuse(Damage),
}

/// Why a store is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Acknowledged bytes up to this place are gone.
    Lost(Mark),
    /// The group at this offset is damaged and lies under acknowledged data.
    UnderAcknowledged(u64),
    /// The last group is whole and wrong: rot, or a disk that lies.
    WholeButWrong(u64),
}

/// The decision table.
pub(crate) fn judge(evidence: &TailEvidence) -> Verdict {
    let later = match evidence.rest {
        Rest::Blank => Mark::default(),
        Rest::Damaged { later_synced, .. } => later_synced,
    };
    let durable = evidence.durable.max(later);
    if !evidence.header_valid {
        if durable.segment < evidence.segment {
            return Verdict::RemoveNewest;
        }
        return Verdict::Refuse(Damage::Lost(durable));
    }
    if durable.segment > evidence.segment {
        return Verdict::Refuse(Damage::Lost(durable));
    }
    let rewrite_from = if durable.segment == evidence.segment {
        durable.offset
    } else {
        0
    };
    let at = evidence.valid_end;
    match evidence.rest {
        Rest::Blank if at < rewrite_from => Verdict::Refuse(Damage::Lost(durable)),
        Rest::Blank => Verdict::Keep { rewrite_from },
        Rest::Damaged { .. } if at < rewrite_from => Verdict::Refuse(Damage::UnderAcknowledged(at)),
        Rest::Damaged {
            shape: Shape::Whole,
            later_groups: 0,
            ..
        } => Verdict::Refuse(Damage::WholeButWrong(at)),
        Rest::Damaged {
            later_groups,
            used_end,
            ..
        } => Verdict::Cut {
            at,
            until: used_end,
            rewrite_from,
            later_groups,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 9_000;

    fn at(segment: u64, offset: u64) -> Mark {
        Mark { segment, offset }
    }

    fn clean(durable: Mark) -> TailEvidence {
        TailEvidence {
            segment: 3,
            header_valid: true,
            valid_end: END,
            rest: Rest::Blank,
            durable,
        }
    }

    fn damaged(durable: Mark, shape: Shape, later_groups: u32, later_synced: Mark) -> TailEvidence {
        let rest = Rest::Damaged {
            shape,
            later_groups,
            later_synced,
            used_end: 12_000,
        };
        TailEvidence {
            rest,
            ..clean(durable)
        }
    }

    fn cut(rewrite_from: u64, later_groups: u32) -> Verdict {
        Verdict::Cut {
            at: END,
            until: 12_000,
            rewrite_from,
            later_groups,
        }
    }

    #[test]
    fn row_1_a_clean_end_is_kept_and_what_is_unproven_is_rewritten() {
        assert_eq!(
            judge(&clean(at(3, 8_000))),
            Verdict::Keep {
                rewrite_from: 8_000
            }
        );
        assert_eq!(
            judge(&clean(at(3, END))),
            Verdict::Keep { rewrite_from: END }
        );
        assert_eq!(
            judge(&clean(at(2, 50_000))),
            Verdict::Keep { rewrite_from: 0 }
        );
    }

    #[test]
    fn row_2_a_clean_end_below_what_was_durable_is_refused() {
        assert_eq!(
            judge(&clean(at(3, END + 1))),
            Verdict::Refuse(Damage::Lost(at(3, END + 1)))
        );
        assert_eq!(
            judge(&clean(at(4, 1))),
            Verdict::Refuse(Damage::Lost(at(4, 1)))
        );
    }

    #[test]
    fn row_3_damage_below_what_was_durable_is_refused() {
        let seen = damaged(at(3, END + 1), Shape::Torn, 0, Mark::default());
        assert_eq!(
            judge(&seen),
            Verdict::Refuse(Damage::UnderAcknowledged(END))
        );
        let raised = damaged(at(3, 5_000), Shape::Torn, 1, at(3, END + 1));
        assert_eq!(
            judge(&raised),
            Verdict::Refuse(Damage::UnderAcknowledged(END))
        );
    }

    #[test]
    fn row_4_a_torn_tail_is_cut() {
        assert_eq!(
            judge(&damaged(at(3, END), Shape::Torn, 0, Mark::default())),
            cut(END, 0)
        );
        assert_eq!(
            judge(&damaged(at(2, 77), Shape::Torn, 0, Mark::default())),
            cut(0, 0)
        );
    }

    #[test]
    fn row_5_later_groups_that_prove_nothing_go_with_the_cut() {
        assert_eq!(
            judge(&damaged(at(3, 8_000), Shape::Whole, 2, at(3, END))),
            cut(END, 2)
        );
        assert_eq!(
            judge(&damaged(at(3, 8_000), Shape::Torn, 2, at(3, 8_500))),
            cut(8_500, 2)
        );
    }

    #[test]
    fn row_6_a_whole_last_group_that_is_wrong_is_refused() {
        let seen = damaged(at(3, 8_000), Shape::Whole, 0, Mark::default());
        assert_eq!(judge(&seen), Verdict::Refuse(Damage::WholeButWrong(END)));
    }

    #[test]
    fn rows_8_and_9_a_segment_without_header_goes_unless_something_in_it_was_durable() {
        let half_made = TailEvidence {
            header_valid: false,
            ..clean(at(2, 50_000))
        };
        assert_eq!(judge(&half_made), Verdict::RemoveNewest);
        let lost = TailEvidence {
            header_valid: false,
            ..clean(at(3, 4_096))
        };
        assert_eq!(judge(&lost), Verdict::Refuse(Damage::Lost(at(3, 4_096))));
    }

    #[test]
    fn row_15_without_any_bound_everything_valid_is_kept() {
        assert_eq!(
            judge(&clean(Mark::default())),
            Verdict::Keep { rewrite_from: 0 }
        );
    }
}
