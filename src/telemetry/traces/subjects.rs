/// The subjects that spans are named after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    pub(super) decide: String,
    pub(super) tenant_decide: String,
    pub(super) assign: String,
    pub(super) result: String,
    pub(super) tenant_result: String,
    pub(super) control: String,
    pub(super) group: String,
}

impl Subjects {
    /// From the prefixes of the deployment (`beamline.router`, `caf.exec`) and its queue group.
    #[must_use]
    pub fn new(router: &str, exec: &str, queue_group: &str) -> Self {
        Self {
            decide: format!("{router}.v1.decide"),
            tenant_decide: format!("{router}.v1.tenant.{{tenant}}.decide"),
            assign: format!("{exec}.assign.v1"),
            result: format!("{exec}.result.v1"),
            tenant_result: format!("{exec}.result.v1.{{tenant}}"),
            control: format!("{router}.control.v1"),
            group: queue_group.to_owned(),
        }
    }
}
