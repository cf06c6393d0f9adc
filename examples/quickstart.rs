//! The program of the README. Run it twice: the second run shows what a conflict says.

use quipu::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Paid {
    by: String,
}

const PLACED: EventKind = EventKind::literal("order.placed"); // checked when compiled
const PAID: EventKind = EventKind::literal("order.paid");
const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/examples/quickstart.quipu"
);

fn main() -> quipu::Result<()> {
    let store = Store::open(std::env::args().nth(1).unwrap_or(PATH.to_owned()))?;
    let order = Coordinate::new("order:1042", "shop:berlin")?; // entity, scope

    let new = AppendOptions::new().expect_no_stream();
    match store.append_with_options(&order, PLACED, &4200, new) {
        Ok(placed) => println!("paid: {}", pay(&store, &order, &placed)?),
        Err(error) if error.kind() == StoreErrorKind::Conflict => println!("conflict: {error}"),
        Err(error) => return Err(error),
    }
    for event in store.stream("order:1042")? {
        println!("{}", event?);
    }
    let paid = Region::entity_prefix("order:").kind("order.paid");
    for event in store.query(paid.tag("customer:7"))? {
        println!("paid by {}", event?.payload::<Paid>()?.by);
    }
    store.close()
}

fn pay(store: &Store, order: &Coordinate, placed: &Receipt) -> quipu::Result<Receipt> {
    let options = AppendOptions::new()
        .expect_revision(1) // optimistic concurrency on the entity's stream
        .unless_any(Query::tag("coupon:X"), placed.position()) // nothing like this since I looked
        .idempotency_key("payment-77") // a retry returns the first receipt
        .tag("customer:7")
        .caused_by(placed); // its parent; the correlation follows
    let by = "card".to_owned();
    store.append_with_options(order, PAID, &Paid { by }, options)
}
