use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::sound::sound_document;
use super::*;
use crate::domain::TenantId;
use crate::rollout::plan::{Tenant, TenantSelection, choose};

fn tenants() -> impl Strategy<Value = Vec<Tenant>> {
    let one = ("[a-d]{1,3}", prop_oneof![Just(0), 0_u64..200_000], prop::bool::weighted(0.2)).prop_map(
        |(id, milli_per_minute, already_enforced)| Tenant {
            id: TenantId::try_new(id).unwrap(),
            milli_per_minute,
            already_enforced,
        },
    );
    vec(one, 0..40)
}

proptest! {
    #[test]
    fn phases_are_cumulative_and_no_tenant_is_twice_in_the_cohort(
        document in sound_document(), tenants in tenants(),
    ) {
        let plan = parse(&document).unwrap().plan;
        let Ok(members) = choose(&plan, &tenants) else { return Ok(()) };
        let cohort = members.cohort();
        prop_assert_eq!(cohort.iter().collect::<BTreeSet<_>>().len(), cohort.len());
        let mut before: &[TenantId] = &[];
        for (index, phase) in plan.phases().iter().enumerate() {
            let now = members.phase(index);
            prop_assert!(now.starts_with(before) && cohort.starts_with(now));
            prop_assert_eq!(members.new_in(index), &now[before.len()..]);
            match phase.tenants {
                TenantSelection::Count { count, .. } => prop_assert_eq!(now.len(), count as usize),
                TenantSelection::Range { min, max } => {
                    prop_assert!((min as usize..=max as usize).contains(&now.len()));
                }
                TenantSelection::Percent { percent } => {
                    prop_assert!(now.len() * 100 >= cohort.len() * usize::from(percent));
                    prop_assert_eq!(percent == 100 && now.len() != cohort.len(), false);
                }
            }
            before = now;
        }
    }

    #[test]
    fn each_tenant_is_chosen_for_a_reason(document in sound_document(), tenants in tenants()) {
        let plan = parse(&document).unwrap().plan;
        let Ok(members) = choose(&plan, &tenants) else { return Ok(()) };
        let entry = |id: &TenantId| tenants.iter().filter(|t| t.id == *id).max().unwrap();
        for id in members.cohort() {
            prop_assert!(plan.cohort().include.iter().any(|p| p.matches(id.as_str())));
            prop_assert!(!plan.cohort().exclude.iter().any(|p| p.matches(id.as_str())));
            prop_assert!(!entry(id).already_enforced && !members.already_enforced().contains(id));
        }
        for (index, phase) in plan.phases().iter().enumerate() {
            let TenantSelection::Count { max_per_minute, critical, .. } = phase.tenants else { continue };
            for id in members.new_in(index) {
                prop_assert!(critical || !plan.is_critical(id));
                let milli = entry(id).milli_per_minute;
                prop_assert!(max_per_minute.is_none_or(|max| milli <= u64::from(max) * 1_000));
            }
        }
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_the_tenants(
        document in sound_document(),
        (tenants, shuffled) in tenants()
            .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
    ) {
        let plan = parse(&document).unwrap().plan;
        prop_assert_eq!(choose(&plan, &tenants), choose(&plan, &shuffled));
    }
}
