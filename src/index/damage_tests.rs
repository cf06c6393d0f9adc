//! Damaged, cut and hostile index bytes: refused or harmless, never a panic, never a wrong answer.

use super::model::{FILE, Model, Random, SEGMENT, STORE_ID, assert_refused, open_at};
use crate::format::sidx::{BLOCK_BYTES, CHUNK_ITEMS, HEADER_BYTES, Part, Trailer, list_bytes};
use crate::format::sidx_build::seal;
use crate::index::sidx::Sidx;
use crate::io::{Access, Disk, MemoryDisk};
use crate::sync::Arc;

/// The body of an index whose checksums are about to be made anew.
fn body(bytes: &[u8]) -> Vec<u8> {
    let blocks = Trailer::decode(&bytes[bytes.len() - 32..])
        .unwrap()
        .blocks();
    bytes[..usize::try_from(blocks).unwrap() * BLOCK_BYTES].to_vec()
}

/// Where the directory says that a part begins.
pub(super) fn section_at(body: &[u8], part: Part) -> usize {
    let line = Part::ALL.iter().position(|other| *other == part).unwrap();
    let at = 128 + 48 * line;
    usize::try_from(u64::from_le_bytes(body[at..at + 8].try_into().unwrap())).unwrap()
}

fn line_at(part: Part) -> usize {
    128 + 48 * Part::ALL.iter().position(|other| *other == part).unwrap()
}

/// Opens a changed body under sound checksums.
fn open_sealed(model: &Model, body: Vec<u8>) -> crate::error::Result<Sidx> {
    open_at(&seal(body, &model.facts()), 0)
}

#[test]
fn every_bit_flip_is_refused_or_changes_nothing_read() {
    // All bytes but the trailer's are below a block's checksum or in the table; the trailer's checksum covers
    // the table and itself. A flip in a block that a read does not touch cannot change what it reads.
    let mut random = Random::from_clock();
    let model = Model::random(&mut random, 60);
    let mut bytes = model.build();
    assert!(
        bytes.len() > 2 * BLOCK_BYTES,
        "the index has several blocks"
    );
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match open_at(&bytes, 0) {
            Err(error) => assert_refused::<()>(Err(error)),
            Ok(sidx) => {
                // Asking panics when an answer is wrong; asked of some flips only, since it takes long.
                if bit % 97 == 0 {
                    let _ = model.ask(&sidx);
                }
                assert_refused(sidx.check());
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_damaged_block_fails_the_read_that_meets_it_and_no_other() {
    let model = Model::random(&mut Random::from_clock(), 2_500);
    let mut bytes = model.build();
    let rows = section_at(&bytes, Part::Rows);
    let block = rows / BLOCK_BYTES + 1;
    bytes[block * BLOCK_BYTES] ^= 1;
    let sidx = open_at(&bytes, 4096).unwrap();
    assert_eq!(sidx.offset(0).unwrap(), model.events[0].offset);
    let chunk = usize::try_from(list_bytes(CHUNK_ITEMS, bytes[line_at(Part::Rows) + 41])).unwrap();
    let first_bad = (block * BLOCK_BYTES - rows).div_ceil(chunk);
    let first_bad = u32::try_from(first_bad).unwrap() * CHUNK_ITEMS;
    let error = sidx.offset(first_bad).unwrap_err();
    let place = format!("{FILE} at byte {}: ", 4096 + block * BLOCK_BYTES);
    assert!(error.to_string().starts_with(&place), "{error}");
    assert_refused(sidx.offset(first_bad));
}

#[test]
fn every_truncation_is_refused() {
    let model = Model::random(&mut Random::from_clock(), 12);
    let bytes = model.build();
    for len in 0..bytes.len() {
        assert_refused(open_at(&bytes[..len], 0));
    }
    let file = MemoryDisk::new().open("file", Access::CreateNew).unwrap();
    crate::io::write_all_at(&*file, &bytes, 0).unwrap();
    let end = bytes.len() as u64;
    for len in 1..end {
        let map = Arc::new(file.map(len).unwrap());
        assert_refused(Sidx::open(map, 0, end, &STORE_ID, SEGMENT, FILE));
    }
}

#[test]
fn an_index_of_another_store_or_segment_is_refused() {
    let bytes = Model::random(&mut Random::from_clock(), 12).build();
    let end = bytes.len() as u64;
    let file = MemoryDisk::new().open("file", Access::CreateNew).unwrap();
    crate::io::write_all_at(&*file, &bytes, 0).unwrap();
    let open = |start, end, store: [u8; 16], segment| {
        let map = Arc::new(file.map(bytes.len() as u64).unwrap());
        Sidx::open(map, start, end, &store, segment, FILE)
    };
    open(0, end, STORE_ID, SEGMENT).unwrap();
    assert_refused(open(0, end, [1; 16], SEGMENT));
    assert_refused(open(0, end, STORE_ID, SEGMENT + 1));
    assert_refused(open(1, end, STORE_ID, SEGMENT));
    assert_refused(open(u64::MAX, end, STORE_ID, SEGMENT));
    assert_refused(open(0, u64::MAX, STORE_ID, SEGMENT));
}

#[test]
fn hostile_bytes_with_sound_checksums_never_panic() {
    let mut random = Random::from_clock();
    let model = Model::random(&mut random, 60);
    let clean = body(&model.build());
    let used = section_at(&clean, Part::Tags) + 64;
    for _ in 0..4_000 {
        let mut body = clean.clone();
        for _ in 0..=random.below(6) {
            let at = match random.below(3) {
                0 => random.below(HEADER_BYTES),
                _ => random.below(used),
            };
            body[at] = random.next().to_le_bytes()[random.below(3)];
        }
        if let Ok(sidx) = open_sealed(&model, body) {
            touch_all(&model, &sidx);
            let _ = sidx.check();
        }
    }
}

/// Reads along every path; answers may be errors, or wrong where a hostile hand made them so.
fn touch_all(model: &Model, sidx: &Sidx) {
    use crate::format::sidx::{Axis16, NameAxis};
    for event in &model.events {
        let _ = sidx.find_id(&event.id);
        let _ = event.key.map(|key| sidx.find_key(&key));
        let _ = sidx.may_contain(Axis16::Id, &event.id);
        let digest = event.removed.unwrap_or_default();
        for range in [
            sidx.correlated(&event.id),
            sidx.children(&event.id),
            sidx.removed(&digest),
        ]
        .into_iter()
        .flatten()
        {
            (0..range.len().min(200)).for_each(|n| _ = range.nth(n));
        }
        let _ = sidx
            .list(NameAxis::Entity, &event.entity)
            .map(|list| list.map(|list| list.lower_bound(9)));
    }
    for axis in NameAxis::ALL {
        for prefix in ["", "order"] {
            let Ok(range) = sidx.prefix(axis, prefix) else {
                continue;
            };
            for index in 0..range.len().min(200) {
                if let Ok((_, list)) = range.nth(index) {
                    (0..list.len().min(200)).for_each(|n| _ = list.nth(n));
                }
            }
        }
    }
    (0..=sidx.rows().min(200)).for_each(|row| _ = sidx.offset(row));
}

#[test]
fn a_lying_directory_is_refused_at_open() {
    let model = Model::random(&mut Random::from_clock(), 60);
    let clean = body(&model.build());
    for part in Part::ALL {
        // Offset, length and count of the section.
        for (field, width) in [(0, 8), (8, 8), (16, 4)] {
            for value in [0xffff_ffff_u64, u64::MAX, 1 << 20, 3] {
                let mut body = clean.clone();
                let at = line_at(part) + field;
                body[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                let unchanged = body == clean;
                if unchanged {
                    continue;
                }
                let opened = open_sealed(&model, body);
                // Fewer names than there are leave bytes that nothing leads to; checking sees it.
                let fewer_names = part.is_names() && field == 16;
                assert_refused(if fewer_names {
                    opened.and_then(|sidx| sidx.check())
                } else {
                    opened.map(drop)
                });
            }
        }
    }
}

impl Part {
    fn is_names(self) -> bool {
        matches!(
            self,
            Self::Entities | Self::Scopes | Self::Kinds | Self::Tags
        )
    }
}

#[test]
fn unsorted_sections_are_found_by_a_check() {
    let mut model = Model::random(&mut Random::from_clock(), 60);
    model.events[7].removed = Some([7; 16]);
    model.events[8].removed = Some([8; 16]);
    let clean = body(&model.build());
    // The width of an element: the first row's offset and the distance of the next, a key's pair (its prefix
    // taken off), a name's entry.
    let pair_bytes = |part| 17 - usize::from(clean[line_at(part) + 40]);
    for (part, width) in [
        (Part::Rows, 4),
        (Part::Ids, pair_bytes(Part::Ids)),
        (Part::Removed, pair_bytes(Part::Removed)),
        (Part::Entities, 8),
    ] {
        let mut body = clean.clone();
        let at = section_at(&body, part);
        let (first, second) = body[at..at + 2 * width].split_at_mut(width);
        first.swap_with_slice(second);
        assert_refused(open_sealed(&model, body).unwrap().check());
    }
}

#[test]
fn offsets_and_rows_out_of_range_are_refused() {
    let model = Model::random(&mut Random::from_clock(), 60);
    let clean = body(&model.build());
    let entities = section_at(&clean, Part::Entities);
    let name = model
        .events
        .iter()
        .map(|event| &event.entity)
        .filter(|name| !name.is_empty())
        .min();
    let name = name.unwrap();
    let line = line_at(Part::Entities);
    let number = |at: usize| u32::from_le_bytes(clean[at..at + 4].try_into().unwrap());
    let heap = 8 * (number(line + 16) + 1);
    let list = usize::try_from(heap + number(line + 20)).unwrap();
    // Of the first entry name and list offset, of the second the same, in the first list width and first row.
    for (field, bytes) in [
        (0, &[0xff, 0xff, 0xff, 0xff][..]),
        (4, &[0xff, 0xff, 0xff, 0xff]),
        (8, &[0xff, 0xff, 0xff, 0xff]),
        (12, &[0xff, 0xff, 0xff, 0xff]),
        (12, &[0, 0, 0, 0]),
        (12, &[1, 0, 0, 0]),
        (list, &[9]),
        (list, &[5]),
        (list + 1, &[60, 0, 0, 0]),
    ] {
        let mut body = clean.clone();
        let at = entities + field;
        body[at..at + bytes.len()].copy_from_slice(bytes);
        let sidx = open_sealed(&model, body).unwrap();
        assert_refused(sidx.check());
        let found = sidx.list(crate::format::sidx::NameAxis::Entity, name);
        let first = found.and_then(|list| list.expect("the name is there").nth(0));
        assert!(first.is_err(), "field {field}");
    }
    let mut body = clean.clone();
    let pair_end = section_at(&body, Part::Ids) + 17 - usize::from(body[line_at(Part::Ids) + 40]);
    body[pair_end - 1] = 60;
    assert_refused(open_sealed(&model, body).unwrap().check());
}
