use serde::{Serialize, Serializer};

/// A setting that is one of a few words: the enum, its words, and its form in a document.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in a document.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words!(
    /// In which order tenants come into a rollout.
    Order {
        /// By requests in the history, fewest first.
        Traffic = "traffic",
        /// By a hash of the tenant's id and the seed.
        Hash = "hash",
        /// As `include` lists them.
        Listed = "listed",
    }
);

words!(
    /// Whether a phase needs to have seen a circuit open and close.
    Exercise {
        /// At least one, in an outage or in a drill.
        Required = "required",
        /// At least one in a drill.
        Drill = "drill",
        /// A phase may pass without.
        No = "no",
    }
);

words!(
    /// Who lets a rollout go on when a phase has passed.
    Approval {
        /// A person, after each phase.
        EachPhase = "each_phase",
        /// Nobody: it goes on by itself.
        None = "none",
    }
);

words!(
    /// What happens when a phase reaches its longest time without a verdict.
    OnExhausted {
        /// The rollout pauses at the share that it has.
        Pause = "pause",
        /// The phase's tenants go back to share 0.
        Rollback = "rollback",
    }
);
