use serde_json::{Value, json};

use crate::domain::ErrorCode;
use crate::nats::Worker;
use crate::nats::buckets::BucketError;
use crate::nats::link::Away;
use crate::policy::Fault;

/// Why a verb was refused, as its sender may read it.
#[derive(Clone, Debug)]
pub struct ControlError {
    /// The code of the answer.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
    /// More for programs.
    pub details: Option<Value>,
    /// What the broker said of a bucket; for the log alone.
    pub(super) bucket: Option<String>,
}

impl ControlError {
    /// An error without details.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None, bucket: None }
    }

    /// A field that is missing or wrong.
    pub(super) fn field(field: &str, problem: &str) -> Self {
        Self {
            code: ErrorCode::InvalidRequest,
            message: format!("{field} {problem}"),
            details: Some(json!({ "field": field })),
            bucket: None,
        }
    }

    /// A policy with faults, all of them.
    pub(super) fn faults(faults: &[Fault]) -> Self {
        Self::faults_of("policy", faults)
    }

    /// A document with faults, all of them; `field` is where the request holds it, and what it is.
    pub(super) fn faults_of(field: &str, faults: &[Fault]) -> Self {
        let message = match faults {
            [one] => format!("the {field} has a fault: {} {}", one.path, one.message),
            many => format!("the {field} has {} faults", many.len()),
        };
        Self {
            code: ErrorCode::InvalidRequest,
            message,
            details: Some(json!({ "field": field, "faults": faults })),
            bucket: None,
        }
    }

    /// Logs what its sender may not read.
    pub(super) fn note(&self, worker: &Worker) {
        if let Some(error) = &self.bucket
            && let Some(stands_for) = worker.line_due("bucket_failed", error)
        {
            tracing::warn!(event = "bucket_failed", error, stands_for);
        }
    }

    /// The answer's body.
    pub(super) fn body(&self) -> Value {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message });
        if let (Some(details), Some(map)) = (&self.details, error.as_object_mut()) {
            map.insert("details".to_owned(), details.clone());
        }
        json!({ "ok": false, "error": error })
    }
}

impl From<Away> for ControlError {
    fn from(away: Away) -> Self {
        Self::new(ErrorCode::Unavailable, format!("{away}; try again"))
    }
}

impl From<BucketError> for ControlError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Conflict { present } => Self {
                code: ErrorCode::Conflict,
                message: error.to_string(),
                details: Some(json!({ "field": "expected_revision", "revision": present })),
                bucket: None,
            },
            BucketError::Busy | BucketError::Late | BucketError::WentBack => {
                Self::new(ErrorCode::Unavailable, format!("{error}; try again"))
            }
            BucketError::Older { .. } => Self::new(ErrorCode::Unavailable, error.to_string()),
            BucketError::Broker(reason) => {
                let message = "the bucket could not be read or changed; try again";
                Self { bucket: Some(reason), ..Self::new(ErrorCode::Unavailable, message) }
            }
        }
    }
}

/// The number of an error code by its word.
pub(super) fn number_of(code: &str) -> u16 {
    const ALL: [ErrorCode; 10] = [
        ErrorCode::InvalidRequest,
        ErrorCode::Unauthorized,
        ErrorCode::PolicyNotFound,
        ErrorCode::CircuitOpen,
        ErrorCode::DecisionFailed,
        ErrorCode::Overloaded,
        ErrorCode::Internal,
        ErrorCode::Conflict,
        ErrorCode::NotFound,
        ErrorCode::Unavailable,
    ];
    ALL.into_iter().find(|c| c.as_str() == code).unwrap_or(ErrorCode::Internal).number()
}
