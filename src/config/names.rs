//! The names that a deployment goes by, all derived from three prefixes, so that two deployments can
//! share a broker.

use std::fmt;

/// Long enough for any real prefix, and short enough that every stream name derived from it stays
/// below the broker's 255 characters.
const MAX_PREFIX: usize = 128;

/// The first tokens of a subject: literal, without wildcards, of characters that also fit into the
/// names of streams and buckets (`[A-Za-z0-9_-]`, tokens parted by single dots).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubjectPrefix(String);

/// Why a text is no subject prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// Nothing at all, a dot at an end, or two in a row.
    #[error("has an empty token: want tokens parted by single dots, such as beamline.router")]
    EmptyToken,
    /// A wildcard, white space or what the name of a stream cannot hold.
    #[error("want tokens of A-Z a-z 0-9 _ - only, no wildcard")]
    Character,
    /// Longer than 128 characters.
    #[error("longer than {MAX_PREFIX} characters")]
    TooLong,
}

impl SubjectPrefix {
    /// Checks a prefix token by token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn try_new(text: &str) -> Result<Self, InvalidPrefix> {
        if text.len() > MAX_PREFIX {
            return Err(InvalidPrefix::TooLong);
        }
        for token in text.split('.') {
            if token.is_empty() {
                return Err(InvalidPrefix::EmptyToken);
            }
            if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                return Err(InvalidPrefix::Character);
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The prefix, without a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `other` or lies below it, token by token.
    #[must_use]
    pub fn lies_under(&self, other: &str) -> bool {
        lies_under(&self.0, other)
    }
}

fn lies_under(subject: &str, other: &str) -> bool {
    subject.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl fmt::Display for SubjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Subjects, streams, buckets and the queue group of one deployment. Fields that end in `_prefix` end
/// with a dot; those that end in `_all` or `_tenants` carry a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Names {
    prefixes: [SubjectPrefix; 3],
    /// `beamline.router.v1.decide`
    pub decide: String,
    /// `beamline.router.v1.decide.reply`, for requests that name no reply subject.
    pub decide_reply: String,
    /// `beamline.router.v1.tenant.*.decide`
    pub decide_tenants: String,
    /// `beamline.router.control.v1.`, what a verb stands behind.
    pub control_prefix: String,
    /// `beamline.router.control.v1.>`
    pub control_all: String,
    /// `beamline.router.v1.events.`
    pub events_prefix: String,
    /// `beamline.router.v1.events.>`
    pub events_all: String,
    /// `beamline.router.v1.log.`, where only routers publish.
    pub log_prefix: String,
    /// `beamline.router.v1.log.>`
    pub log_all: String,
    /// `beamline.router.v1.rollout.`, where only routers publish.
    pub rollout_prefix: String,
    /// `beamline.router.v1.rollout.>`
    pub rollout_all: String,
    /// `caf.exec.assign.v1`
    pub exec_assign: String,
    /// `caf.exec.assign.`, below which an assignment subject must lie.
    pub exec_assign_prefix: String,
    /// `caf.exec.assign.v1.ack`
    pub exec_ack: String,
    /// `caf.exec.assign.v1.ack.*`
    pub exec_ack_tenants: String,
    /// `caf.exec.result.v1`
    pub exec_result: String,
    /// `caf.exec.result.v1.*`
    pub exec_result_tenants: String,
    /// `beamline.usage.v1.metered`
    pub usage_metered: String,
    /// The queue group of the decide subjects: `beamline-router`.
    pub queue_group: String,
    /// The log's stream: `BEAMLINE_LOG`.
    pub log_stream: String,
    /// The stream of the events subjects: `BEAMLINE_EVENTS`.
    pub events_stream: String,
    /// The stream of usage events: `BEAMLINE_USAGE`.
    pub usage_stream: String,
    /// The stream of rollouts: `BEAMLINE_ROLLOUTS`.
    pub rollouts_stream: String,
    /// The bucket of policies: `BEAMLINE_POLICIES`.
    pub policies_bucket: String,
    /// The bucket of flags: `BEAMLINE_FLAGS`.
    pub flags_bucket: String,
    /// The bucket of snapshots: `BEAMLINE_SNAPSHOTS`.
    pub snapshots_bucket: String,
}

impl Names {
    /// The router's prefix.
    #[must_use]
    pub fn router_prefix(&self) -> &str {
        self.prefixes[0].as_str()
    }

    /// The executors' prefix.
    #[must_use]
    pub fn exec_prefix(&self) -> &str {
        self.prefixes[1].as_str()
    }

    /// Derives all names. Streams and buckets are named after the router's prefix in upper case, dots
    /// as underscores, without `_ROUTER` at its end.
    #[must_use]
    pub fn new(router: &SubjectPrefix, exec: &SubjectPrefix, usage: &SubjectPrefix) -> Self {
        let upper = router.as_str().to_ascii_uppercase().replace('.', "_");
        let base = match upper.strip_suffix("_ROUTER") {
            Some(short) if !short.is_empty() => short,
            _ => &upper,
        };
        Self {
            prefixes: [router.clone(), exec.clone(), usage.clone()],
            decide: format!("{router}.v1.decide"),
            decide_reply: format!("{router}.v1.decide.reply"),
            decide_tenants: format!("{router}.v1.tenant.*.decide"),
            control_prefix: format!("{router}.control.v1."),
            control_all: format!("{router}.control.v1.>"),
            events_prefix: format!("{router}.v1.events."),
            events_all: format!("{router}.v1.events.>"),
            log_prefix: format!("{router}.v1.log."),
            log_all: format!("{router}.v1.log.>"),
            rollout_prefix: format!("{router}.v1.rollout."),
            rollout_all: format!("{router}.v1.rollout.>"),
            exec_assign: format!("{exec}.assign.v1"),
            exec_assign_prefix: format!("{exec}.assign."),
            exec_ack: format!("{exec}.assign.v1.ack"),
            exec_ack_tenants: format!("{exec}.assign.v1.ack.*"),
            exec_result: format!("{exec}.result.v1"),
            exec_result_tenants: format!("{exec}.result.v1.*"),
            usage_metered: format!("{usage}.v1.metered"),
            queue_group: router.as_str().replace('.', "-"),
            log_stream: format!("{base}_LOG"),
            events_stream: format!("{base}_EVENTS"),
            usage_stream: format!("{base}_USAGE"),
            rollouts_stream: format!("{base}_ROLLOUTS"),
            policies_bucket: format!("{base}_POLICIES"),
            flags_bucket: format!("{base}_FLAGS"),
            snapshots_bucket: format!("{base}_SNAPSHOTS"),
        }
    }

    /// The prefixes of the router, the executors and usage.
    #[must_use]
    pub fn prefixes(&self) -> &[SubjectPrefix] {
        &self.prefixes
    }

    /// The subject of a control verb: `beamline.router.control.v1.policy.put`.
    #[must_use]
    pub fn control(&self, verb: &str) -> String {
        format!("{}{verb}", self.control_prefix)
    }

    /// The decide subject of a tenant, named as a subject token.
    #[must_use]
    pub fn decide_tenant(&self, token: &str) -> String {
        self.decide_tenants.replace('*', token)
    }

    /// The assignment subject of a tenant, `caf.exec.assign.v1.acme`; `None` for one whose id is no single token, or
    /// is that of the acknowledgements.
    #[must_use]
    pub fn exec_assign_tenant(&self, tenant_id: &str) -> Option<String> {
        let subject = format!("{}.{tenant_id}", self.exec_assign);
        (!tenant_id.contains('.') && subject != self.exec_ack).then_some(subject)
    }

    /// Where a tenant's assignments may go unless its policy lists subjects, first where they go by default.
    #[must_use]
    pub fn standard_assign(&self, tenant_id: &str, require_tenant: bool) -> Vec<String> {
        let shared = (!require_tenant).then(|| self.exec_assign.clone());
        shared.into_iter().chain(self.exec_assign_tenant(tenant_id)).collect()
    }

    /// Whether assignments may be sent to a subject: below the executors' prefix, but not where acknowledgements
    /// come in.
    #[must_use]
    pub fn is_assignable(&self, subject: &str) -> bool {
        subject.starts_with(&self.exec_assign_prefix) && !lies_under(subject, &self.exec_ack)
    }

    /// The result subject of a tenant, named as a subject token.
    #[must_use]
    pub fn exec_result_tenant(&self, token: &str) -> String {
        format!("{}.{token}", self.exec_result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(router: &str) -> Names {
        let prefix = |text| SubjectPrefix::try_new(text).expect("a sound prefix");
        Names::new(&prefix(router), &prefix("caf.exec"), &prefix("beamline.usage"))
    }

    #[test]
    fn the_default_prefixes_give_the_names_of_the_contract() {
        let names = names("beamline.router");
        assert_eq!(names.decide, "beamline.router.v1.decide");
        assert_eq!(names.decide_tenant("acme"), "beamline.router.v1.tenant.acme.decide");
        assert_eq!(names.control("policy.put"), "beamline.router.control.v1.policy.put");
        assert_eq!(names.exec_ack, "caf.exec.assign.v1.ack");
        assert_eq!(names.exec_ack_tenants, "caf.exec.assign.v1.ack.*");
        assert_eq!(names.exec_assign_tenant("acme").as_deref(), Some("caf.exec.assign.v1.acme"));
        let own = "caf.exec.assign.v1.acme".to_owned();
        assert_eq!(names.standard_assign("acme", false), [names.exec_assign.clone(), own.clone()]);
        assert_eq!(names.standard_assign("acme", true), [own]);
        assert_eq!(names.standard_assign("a.b", true), <[String; 0]>::default());
        assert!(names.is_assignable("caf.exec.assign.gpu") && names.is_assignable("caf.exec.assign.v1.acks"));
        for other in ["caf.exec.assign.v1.ack", "caf.exec.assign.v1.ack.acme", "caf.exec.result.v1", "x"] {
            assert!(!names.is_assignable(other), "{other}");
        }
        for shared in ["ack", "a.b", "ack.b"] {
            assert_eq!(names.exec_assign_tenant(shared), None, "{shared}");
        }
        assert_eq!(names.exec_result_tenant("acme"), "caf.exec.result.v1.acme");
        assert_eq!(names.usage_metered, "beamline.usage.v1.metered");
        assert_eq!(names.queue_group, "beamline-router");
        let kept = [
            &names.log_stream,
            &names.events_stream,
            &names.usage_stream,
            &names.rollouts_stream,
            &names.policies_bucket,
            &names.flags_bucket,
            &names.snapshots_bucket,
        ];
        let want = ["LOG", "EVENTS", "USAGE", "ROLLOUTS", "POLICIES", "FLAGS", "SNAPSHOTS"]
            .map(|n| format!("BEAMLINE_{n}"));
        assert!(kept.into_iter().eq(&want));
    }

    #[test]
    fn streams_follow_the_router_prefix() {
        assert_eq!(names("staging.eu.router").log_stream, "STAGING_EU_LOG");
        assert_eq!(names("router").log_stream, "ROUTER_LOG");
        assert_eq!(names("acme").log_stream, "ACME_LOG");
    }

    #[test]
    fn a_prefix_is_literal_tokens() {
        assert_eq!(SubjectPrefix::try_new(""), Err(InvalidPrefix::EmptyToken));
        assert_eq!(SubjectPrefix::try_new("a..b"), Err(InvalidPrefix::EmptyToken));
        assert_eq!(SubjectPrefix::try_new("a.b."), Err(InvalidPrefix::EmptyToken));
        for text in ["a.*", ">", "a.b c", "$SYS", "a/b", "é", "a\n"] {
            assert_eq!(SubjectPrefix::try_new(text), Err(InvalidPrefix::Character), "{text}");
        }
        assert_eq!(SubjectPrefix::try_new(&"a".repeat(129)), Err(InvalidPrefix::TooLong));
    }

    #[test]
    fn lying_under_goes_by_tokens() {
        let prefix = SubjectPrefix::try_new("caf.exec").expect("a sound prefix");
        assert!(prefix.lies_under("caf") && prefix.lies_under("caf.exec"));
        assert!(!prefix.lies_under("caf.ex") && !prefix.lies_under("caf.exec.v1"));
    }
}
