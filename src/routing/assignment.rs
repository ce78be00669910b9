/// Where an assignment goes: to the subject that the request asks for, else to the first that may be used. Those are
/// the ones that the policy lists, else the standard ones; `None` where the request asks for another, or there is none.
#[must_use]
pub fn assignment_subject<'a>(
    listed: &'a [String],
    standard: &'a [String],
    asked: Option<&str>,
) -> Option<&'a str> {
    let usable = if listed.is_empty() { standard } else { listed };
    let found = match asked {
        None => usable.first(),
        Some(asked) => usable.iter().find(|subject| *subject == asked),
    };
    found.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_goes_where_the_policy_lets_it() {
        let list = |subjects: &[&str]| subjects.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let standard = list(&["assign", "assign.acme"]);
        assert_eq!(assignment_subject(&[], &standard, None), Some("assign"));
        assert_eq!(assignment_subject(&[], &standard, Some("assign.acme")), Some("assign.acme"));
        assert_eq!(assignment_subject(&[], &standard, Some("assign.gpu")), None);
        let listed = list(&["assign.gpu", "assign.cpu"]);
        assert_eq!(assignment_subject(&listed, &standard, None), Some("assign.gpu"));
        assert_eq!(assignment_subject(&listed, &standard, Some("assign.cpu")), Some("assign.cpu"));
        assert_eq!(assignment_subject(&listed, &standard, Some("assign")), None);
        assert_eq!(assignment_subject(&[], &[], None), None);
    }
}
