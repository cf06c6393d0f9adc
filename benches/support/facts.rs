//! The events that every benchmark writes: the same names and payloads, in the same order, for everyone.

/// Bytes of payload in each event.
pub(crate) const PAYLOAD_BYTES: usize = 256;
/// How many entities the events belong to.
pub(crate) const ENTITIES: usize = 10_000;
/// The kinds, each on about a quarter of the events.
pub(crate) const KINDS: [&str; 4] = [
    "order.placed",
    "order.paid",
    "order.packed",
    "order.shipped",
];

const SCOPES: [&str; 8] = [
    "shop:berlin",
    "shop:paris",
    "shop:lima",
    "shop:osaka",
    "shop:cusco",
    "shop:oslo",
    "shop:quito",
    "shop:turin",
];
const PAYLOADS: usize = 251;

/// One event before it is written.
#[derive(Clone, Copy)]
pub(crate) struct Fact<'a> {
    pub(crate) entity: &'a str,
    pub(crate) scope: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) tag: &'a str,
    pub(crate) payload: &'a [u8],
}

/// Names and payloads made ahead, so that making them is not what is measured.
pub(crate) struct Facts {
    entities: Vec<String>,
    tags: Vec<String>,
    payloads: Vec<Vec<u8>>,
}

impl Facts {
    pub(crate) fn new() -> Self {
        Self {
            entities: (0..ENTITIES)
                .map(|n| format!("order:{:06}", 100_000 + n))
                .collect(),
            tags: (0..ENTITIES).map(|n| format!("customer:{n}")).collect(),
            payloads: (0..PAYLOADS).map(payload).collect(),
        }
    }

    /// The event number `index`; the same for the same number.
    pub(crate) fn fact(&self, index: usize) -> Fact<'_> {
        let dice = mix(index as u64);
        Fact {
            entity: &self.entities[below(dice, ENTITIES)],
            scope: SCOPES[below(dice.rotate_left(48), SCOPES.len())],
            kind: KINDS[below(dice.rotate_left(32), KINDS.len())],
            tag: &self.tags[below(dice.rotate_left(16), ENTITIES)],
            payload: &self.payloads[index % PAYLOADS],
        }
    }

    /// The name of the entity number `index`.
    pub(crate) fn entity(&self, index: usize) -> &str {
        &self.entities[index % ENTITIES]
    }
}

/// A MessagePack byte string that takes `PAYLOAD_BYTES` with its two bytes of header.
fn payload(number: usize) -> Vec<u8> {
    let length = u8::try_from(PAYLOAD_BYTES - 2).expect("the payload fits a bin8");
    let mut bytes = vec![0xc4, length];
    let noise = (0..).flat_map(|n| mix(number as u64 * 1_000 + n).to_le_bytes());
    bytes.extend(noise.take(PAYLOAD_BYTES - 2));
    bytes
}

/// A well mixed number of `seed` (SplitMix64, Steele, Lea and Flood 2014).
pub(crate) fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number below `bound`, taken from the upper half of `dice`.
pub(crate) fn below(dice: u64, bound: usize) -> usize {
    let wide = (dice >> 32) * bound as u64;
    usize::try_from(wide >> 32).expect("it is below the bound")
}
