//! The two-dimensional address of an event: who it is about and where it happened.

use alloc::sync::Arc;
use core::fmt;

use crate::error::Result;
use crate::event::name;

/// Who an event is about (the entity) and where it happened (the scope).
///
/// ```
/// use quipu::Coordinate;
///
/// let order = Coordinate::new("order:17", "shop")?;
/// assert_eq!(order.entity(), "order:17");
/// # Ok::<(), quipu::StoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinate {
    entity: Arc<str>,
    scope: Arc<str>,
}

impl Coordinate {
    /// Makes a coordinate of an entity and a scope, each 1 to 512 bytes without control characters.
    ///
    /// # Errors
    ///
    /// `Argument` if either name is empty, too long or holds a control character.
    pub fn new(entity: impl AsRef<str>, scope: impl AsRef<str>) -> Result<Self> {
        let (entity, scope) = (entity.as_ref(), scope.as_ref());
        name::check_entity(entity)?;
        name::check_scope(scope)?;
        Ok(Self {
            entity: entity.into(),
            scope: scope.into(),
        })
    }

    /// Returns who the event is about.
    #[must_use]
    pub fn entity(&self) -> &str {
        &self.entity
    }

    /// Returns where the event happened.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    pub(crate) fn shared_entity(&self) -> &Arc<str> {
        &self.entity
    }
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.entity, self.scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;

    #[test]
    fn a_name_at_the_bound_passes_and_one_past_it_does_not() {
        let (full, over) = ("x".repeat(512), "x".repeat(513));
        assert!(Coordinate::new(&full, &full).is_ok());
        for (entity, scope) in [(&over, &full), (&full, &over)] {
            let error = Coordinate::new(entity, scope).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Argument);
        }
    }

    #[test]
    fn a_coordinate_prints_both_names() {
        let order = Coordinate::new("order:1", "shop").unwrap();
        assert_eq!(order.to_string(), "order:1 in shop");
        assert_eq!((order.entity(), order.scope()), ("order:1", "shop"));
    }
}
