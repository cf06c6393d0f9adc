//! Judges the log as it was found: pure functions from what was seen to what must be done.
//!
//! It is the decision table of `docs/architecture.md`, row by row: a torn tail is cut, damage under acknowledged data
//! never is. Nothing here reads or writes; the thread that loads the log asks. The test of each row has its number:
//! rows 1 to 9, 13 and 15 are [`judge`], over what [`proven`] and [`TailEvidence::without_header`] make of the
//! evidence; row 10 is [`first_missing`] and [`continues`]; row 11 is [`judge_footer`]. The others need no decision,
//! since an error is passed on: row 12 is in `segment.rs`, row 14 in `look.rs`, row 16 in `scan.rs`.

use crate::format::checkpoint::{Checkpoint, SealedEntry};
use crate::format::hint::Slot;
use crate::format::manifest::Manifest;
use crate::format::segment::SegmentHeader;
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

/// The segment before a newest one that has no valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It has a footer, which it gets once something in the newest segment is durable.
    Sealed,
    /// It has none, or there is no such segment.
    Open,
}

impl TailEvidence {
    /// Of a newest segment whose header is absent, zero or torn; `known` is the furthest place known durable.
    pub(crate) fn without_header(segment: u64, known: Mark, before: Before) -> Self {
        let footer_proves = match before {
            Before::Sealed => Mark { segment, offset: 0 },
            Before::Open => Mark::default(),
        };
        Self {
            segment,
            header_valid: false,
            valid_end: 0,
            rest: Rest::Blank,
            durable: known.max(footer_proves),
        }
    }

    /// The furthest place known durable, also from what groups behind the last valid one say.
    pub(crate) fn proven(&self) -> Mark {
        match self.rest {
            Rest::Blank => self.durable,
            Rest::Damaged { later_synced, .. } => self.durable.max(later_synced),
        }
    }
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

/// The furthest place that hint and checkpoint say was durable; one that is missing or damaged says nothing.
pub(crate) fn proven(hint: Option<&Slot>, checkpoint: Option<&Checkpoint>) -> Mark {
    let of_hint = hint.map_or(Mark::default(), |hint| Mark {
        segment: hint.segment,
        offset: hint.end_offset,
    });
    let of_checkpoint = checkpoint.map_or(Mark::default(), |checkpoint| Mark {
        segment: checkpoint.active_segment,
        offset: checkpoint.active_end,
    });
    of_hint.max(of_checkpoint)
}

/// What the manifest proves: a segment is replaced once something in the one behind it is durable.
pub(crate) fn proven_by(manifest: &Manifest) -> Mark {
    let last = manifest.replaced.last();
    last.map_or(Mark::default(), |range| Mark {
        segment: range.last + 1,
        offset: 0,
    })
}

/// What becomes of the newest segment.
pub(crate) fn judge(evidence: &TailEvidence) -> Verdict {
    let durable = evidence.proven();
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

/// The first number from 1 to at least `least` that is in none of the files, which stand for ranges and are in order.
pub(crate) fn first_missing(
    files: impl IntoIterator<Item = (u64, u64)>,
    least: u64,
) -> Option<u64> {
    let mut expected = 1;
    for (first, last) in files {
        if first != expected {
            return Some(expected);
        }
        expected = last + 1;
    }
    (expected <= least).then_some(expected)
}

/// Whether `next` continues the segment with this `header` that the entry describes.
pub(crate) fn continues(entry: &SealedEntry, header: &SegmentHeader, next: &SegmentHeader) -> bool {
    next.predecessor == entry.number
        && entry.first_position == header.first_position
        && next.first_position == entry.last_position + 1
        && next.digest_before == entry.digest
        && next.predecessor_checksum == entry.last_group_checksum
        && next.sequence_before == entry.last_group_sequence
        && next.recorded_before == entry.last_recorded
}

/// All that is known of a sealed segment whose footer is missing, damaged, or of other events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FooterEvidence<'a> {
    /// What its frames, all of them sound, say.
    pub(crate) frames: &'a SealedEntry,
    /// Its header.
    pub(crate) header: &'a SegmentHeader,
    /// The header of the segment behind it.
    pub(crate) next: &'a SegmentHeader,
    /// Whether only zeros stand behind its last group.
    pub(crate) blank_behind: bool,
}

/// What becomes of a sealed segment without a usable footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FooterVerdict {
    /// Write the footer where it belongs.
    MakeInPlace,
    /// Something stands there, and is left as it is: write the index into a file beside the segment.
    MakeBeside,
    /// Do not open: the next segment continues other events.
    Refuse,
}

/// Whether and where the footer of a sealed segment is made again.
pub(crate) fn judge_footer(evidence: &FooterEvidence<'_>) -> FooterVerdict {
    if !continues(evidence.frames, evidence.header, evidence.next) {
        return FooterVerdict::Refuse;
    }
    match evidence.blank_behind {
        true => FooterVerdict::MakeInPlace,
        false => FooterVerdict::MakeBeside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hint::Shutdown;

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

    fn hint(mark: Mark) -> Slot {
        Slot {
            generation: 1,
            segment: mark.segment,
            end_offset: mark.offset,
            last_position: 70,
            group_checksum: 7,
            shutdown: Shutdown::Running,
            manifest_generation: 1,
        }
    }

    fn checkpoint(mark: Mark) -> Checkpoint {
        Checkpoint {
            store_id: [1; 16],
            active_segment: mark.segment,
            active_end: mark.offset,
            last_position: 70,
            last_group_sequence: 30,
            last_group_checksum: 7,
            last_recorded: 1_000,
            digest: [9; 32],
            sealed: Vec::new(),
        }
    }

    /// Segment 2 holds the events 11 to 20.
    fn sealed() -> SealedEntry {
        SealedEntry {
            store_id: [1; 16],
            first: 2,
            number: 2,
            generation: 0,
            first_position: 11,
            last_position: 20,
            file_bytes: 16_384,
            log_end: END,
            last_group_checksum: 7,
            index_checksum: 8,
            last_group_sequence: 5,
            first_recorded: 900,
            last_recorded: 1_000,
            digest: [9; 32],
        }
    }

    fn header(number: u64, first_position: u64) -> SegmentHeader {
        SegmentHeader {
            store_id: [1; 16],
            salt: [2; 16],
            number,
            replaces_first: number,
            replaces_last: number,
            first_position,
            digest_before: [9; 32],
            predecessor: number - 1,
            predecessor_checksum: 7,
            replaced_checksum: 0,
            sequence_before: 5,
            recorded_before: 1_000,
            replaced_sequence: 0,
        }
    }

    /// What is judged of segment 2, behind which segment 3 stands after `change`.
    fn footer_verdict(
        blank_behind: bool,
        change: impl FnOnce(&mut SegmentHeader),
    ) -> FooterVerdict {
        let mut next = header(3, 21);
        change(&mut next);
        judge_footer(&FooterEvidence {
            frames: &sealed(),
            header: &header(2, 11),
            next: &next,
            blank_behind,
        })
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
    fn row_7_a_group_behind_the_cut_that_does_not_chain_is_zeroed_with_it() {
        let used_end = 20_000;
        let rest = Rest::Damaged {
            shape: Shape::Torn,
            later_groups: 1,
            later_synced: at(2, 50_000),
            used_end,
        };
        let seen = TailEvidence {
            rest,
            ..clean(at(3, END))
        };
        let verdict = judge(&seen);
        assert!(
            matches!(verdict, Verdict::Cut { at: END, until, .. } if until == used_end),
            "{verdict:?}"
        );
    }

    #[test]
    fn row_8_a_segment_without_header_is_taken_away() {
        let half_made = TailEvidence::without_header(3, at(2, 50_000), Before::Open);
        assert_eq!(judge(&half_made), Verdict::RemoveNewest);
        let first = TailEvidence::without_header(1, Mark::default(), Before::Open);
        assert_eq!(judge(&first), Verdict::RemoveNewest);
    }

    #[test]
    fn row_9_a_segment_without_header_in_which_something_was_durable_is_refused() {
        let known = TailEvidence::without_header(3, at(3, 4_096), Before::Open);
        assert_eq!(judge(&known), Verdict::Refuse(Damage::Lost(at(3, 4_096))));
        let behind_a_footer = TailEvidence::without_header(3, at(2, 50_000), Before::Sealed);
        assert_eq!(
            judge(&behind_a_footer),
            Verdict::Refuse(Damage::Lost(at(3, 0)))
        );
    }

    #[test]
    fn row_10_a_missing_number_is_found() {
        let missing = |numbers: &[u64]| first_missing(numbers.iter().map(|n| (*n, *n)), 0);
        assert_eq!(missing(&[]), None);
        assert_eq!(missing(&[1, 2, 3]), None);
        assert_eq!(missing(&[2, 3]), Some(1));
        assert_eq!(missing(&[1, 2, 4, 6]), Some(3));
        assert_eq!(first_missing([(1, 3), (4, 4), (5, 9)], 9), None);
        assert_eq!(first_missing([(1, 3), (5, 9)], 9), Some(4));
        assert_eq!(first_missing([(1, 3), (3, 4)], 4), Some(4));
        assert_eq!(first_missing([(1, 3)], 4), Some(4));
        assert_eq!(first_missing([], 1), Some(1));
    }

    #[test]
    fn row_10_a_header_that_does_not_continue_its_predecessor_is_refused() {
        let changes: [fn(&mut SegmentHeader); 6] = [
            |next| next.predecessor = 1,
            |next| next.first_position = 22,
            |next| next.digest_before = [8; 32],
            |next| next.predecessor_checksum = 6,
            |next| next.sequence_before = 4,
            |next| next.recorded_before = 999,
        ];
        for (nth, change) in changes.into_iter().enumerate() {
            let mut next = header(3, 21);
            change(&mut next);
            assert!(!continues(&sealed(), &header(2, 11), &next), "{nth}");
            assert_eq!(footer_verdict(true, change), FooterVerdict::Refuse, "{nth}");
        }
        assert!(continues(&sealed(), &header(2, 11), &header(3, 21)));
        assert!(!continues(&sealed(), &header(2, 12), &header(3, 21)));
    }

    #[test]
    fn row_11_a_footer_is_made_again_in_place_or_beside_what_stands_there() {
        assert_eq!(footer_verdict(true, |_| ()), FooterVerdict::MakeInPlace);
        assert_eq!(footer_verdict(false, |_| ()), FooterVerdict::MakeBeside);
    }

    #[test]
    fn row_13_a_log_that_ends_before_the_checkpoint_is_refused() {
        let ahead = at(3, END + 1);
        let durable = proven(Some(&hint(at(3, END))), Some(&checkpoint(ahead)));
        assert_eq!(judge(&clean(durable)), Verdict::Refuse(Damage::Lost(ahead)));
    }

    #[test]
    fn row_15_without_a_hint_other_evidence_counts() {
        let place = at(3, 8_000);
        assert_eq!(proven(None, Some(&checkpoint(place))), place);
        assert_eq!(proven(Some(&hint(place)), None), place);
        assert_eq!(proven(None, None), Mark::default());
        assert_eq!(
            judge(&clean(proven(None, None))),
            Verdict::Keep { rewrite_from: 0 }
        );
    }
}
