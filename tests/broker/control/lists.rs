//! Lists in pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::to;
use crate::support::{Broker, Caller, Worker};

#[tokio::test]
async fn lists_come_in_pages_below_the_brokers_payload_limit() {
    let broker = Broker::with_config("max_payload: 65536").await;
    let _worker = Worker::start(&broker, |l| l).await;
    let caller = Caller::connect(&broker).await;
    let long = |n: usize, c: &str| format!("{n:03}-{}", c.repeat(240));
    for tenant in ["t-1", "t.2", "t:3"] {
        for n in 0..10 {
            let providers: Vec<_> = (0..20).map(|p| json!({"name": long(p, "p"), "weight": 5})).collect();
            caller.put_policy(tenant, &json!({"policy_id": long(n, "x"), "providers": providers})).await;
        }
    }
    let all = async |verb: &str, field: &str, mut body: Value| {
        let mut items = Vec::new();
        let mut pages = 0;
        loop {
            let page = caller.command(verb, &body).await;
            items.extend(page[field].as_array().unwrap().iter().cloned());
            pages += 1;
            match page.get("cursor").filter(|c| !c.is_null()) {
                Some(cursor) => body["cursor"] = cursor.clone(),
                None => return (items, pages),
            }
        }
    };
    let key = |item: &Value, second: &str| {
        (item["tenant_id"].as_str().unwrap().to_owned(), item[second].as_str().unwrap().to_owned())
    };
    for (verb, field, second, total, of_one) in [
        ("policy.list", "policies", "policy_id", 30, 10),
        ("breaker.list", "breakers", "provider_id", 60, 20),
    ] {
        for limit in [json!(null), json!(7), json!(1), json!(1000)] {
            let (items, pages) = all(verb, field, json!({"limit": limit})).await;
            let keys: Vec<_> = items.iter().map(|i| key(i, second)).collect();
            assert_eq!(
                keys.iter().collect::<BTreeSet<_>>().len(),
                total,
                "{verb} {limit}: {} items",
                items.len()
            );
            assert_eq!(items.len(), total, "{verb} {limit}: none twice");
            if let Some(limit) = limit.as_u64() {
                assert!(pages >= total / usize::try_from(limit).unwrap(), "{verb} {limit}: {pages} pages");
            }
        }
        let (items, _) = all(verb, field, json!({"tenant_id": "t.2", "limit": 3})).await;
        assert_eq!(items.len(), of_one, "{verb} of one tenant");
        assert!(items.iter().all(|i| i["tenant_id"] == "t.2"));
        let (items, _) = all(verb, field, json!({"tenant_id": "nobody"})).await;
        assert_eq!(items.len(), 0);
    }
    // A history of large documents, too.
    for n in 0..20 {
        let mut policy = to(&long(n, "p"));
        policy["fallbacks"] = (0..30).map(|f| json!({"to": long(f, "f")})).collect();
        caller.put_policy("t-9", &policy).await;
    }
    let (items, pages) =
        all("policy.history", "revisions", json!({"tenant_id": "t-9", "policy_id": "default"})).await;
    assert_eq!(items.len(), 20);
    assert!(pages > 1);
}
