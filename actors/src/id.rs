//! Names and numbers that identify things. A name that exists as one of these types is valid.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Position of an event in its feed, from 0.
pub type Offset = u64;

/// Which text of a recipe: 1 is the first that was applied.
pub type Revision = u32;

/// Which incarnation of a delivery actor. What an older one still has in flight can settle nothing.
pub type Epoch = u64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a name: expected 1 to 128 of a-z 0-9 . _ - beginning with a letter or digit")]
pub struct NameError {
    pub found: String,
}

/// Whether `text` matches `[a-z0-9][a-z0-9._-]{0,127}`.
pub fn is_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 128
        && text.bytes().next().is_some_and(ok)
        && text.bytes().all(|b| ok(b) || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(NameError { found: text.chars().take(200).collect() }) }
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a change feed.
    FeedName
);
name!(
    /// Id of a recipe.
    RecipeId
);
name!(
    /// Name of a target within its recipe.
    TargetName
);

impl RecipeId {
    /// The name that the promised lines and dashboards use: the id without a trailing `.sync`.
    pub fn short(&self) -> &str {
        self.0.strip_suffix(".sync").filter(|rest| !rest.is_empty()).unwrap_or(&self.0)
    }
}

/// A target of a recipe: the unit that has a checkpoint, a plan, a circuit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetKey {
    pub recipe: RecipeId,
    pub target: TargetName,
}

impl TargetKey {
    /// No target of the recipe comes before it: names begin with a letter or digit.
    pub fn first_of(recipe: &RecipeId) -> Self {
        Self { recipe: recipe.clone(), target: TargetName("0".into()) }
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.recipe, self.target)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, from the node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Time since `earlier`; zero when the clock was set back in between.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
    pub fn plus(self, duration: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}
