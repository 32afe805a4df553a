//! A service in miniature: requests arrive as JSON, become typed structures, are joined and
//! sorted, and leave as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Order {
    id: u64,
    customer: String,
    tags: Vec<String>,
    lines: Vec<Line>,
    note: Option<String>,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Line {
    article: String,
    count: u32,
    price: f64,
}

/// One request: the answer depends on everything done.
pub fn request(number: u64) -> u64 {
    let orders: Vec<Order> = (0..400).map(|n| order(number * 400 + n)).collect();
    let text = serde_json::to_string(&orders).unwrap_or_default();
    let mut parsed: Vec<Order> = serde_json::from_str(&text).unwrap_or_default();
    let mut by_customer: BTreeMap<String, Vec<Order>> = BTreeMap::new();
    parsed.retain(|order| !order.lines.is_empty());
    for order in parsed {
        by_customer.entry(order.customer.clone()).or_default().push(order);
    }
    for orders in by_customer.values_mut() {
        orders.sort_by(|a, b| b.lines.len().cmp(&a.lines.len()).then(a.id.cmp(&b.id)));
        orders.truncate(20);
    }
    let answer = serde_json::to_vec(&by_customer).unwrap_or_default();
    answer.iter().map(|&byte| u64::from(byte)).sum()
}

fn order(id: u64) -> Order {
    let lines = (0..id % 7).map(|n| Line {
        article: format!("article-{}", (id * 31 + n) % 997),
        count: 1 + (n % 3) as u32,
        price: (id % 100) as f64 + 0.5,
    });
    Order {
        id,
        customer: format!("customer-{}", id % 23),
        tags: (0..id % 4).map(|n| format!("tag-{n}")).collect(),
        lines: lines.collect(),
        note: id
            .is_multiple_of(5)
            .then(|| "to be delivered in the morning".repeat(1 + id as usize % 4)),
    }
}
