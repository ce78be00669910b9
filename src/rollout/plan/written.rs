//! How integers of a plan are written in its document.

use serde::{Serialize, Serializer};

use crate::document;
use crate::domain::Ratio;

use super::analysis::OrAuto;

/// The word for a setting that follows from the history.
pub(super) const AUTO: &str = "auto";

pub(super) fn duration<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&document::written(*ms))
}

pub(super) fn ratio<S: Serializer>(ratio: &Ratio, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(ratio.as_f64())
}

pub(super) fn ratio_or_auto<S: Serializer>(margin: &OrAuto<Ratio>, serializer: S) -> Result<S::Ok, S::Error> {
    match margin {
        OrAuto::Auto => serializer.serialize_str(AUTO),
        OrAuto::Fixed(margin) => ratio(margin, serializer),
    }
}

pub(super) fn count_or_auto<S: Serializer>(budget: &OrAuto<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    match budget {
        OrAuto::Auto => serializer.serialize_str(AUTO),
        OrAuto::Fixed(count) => count.serialize(serializer),
    }
}

pub(super) fn permille<S: Serializer>(permille: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from(*permille) / 1_000.0)
}
