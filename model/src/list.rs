//! A short list that is copied, compared and hashed by what is in it.

use std::hash::{Hash, Hasher};

/// At most `N` items. Pushing more is a fault of the model's bounds.
#[derive(Clone, Copy, Debug)]
pub struct List<T, const N: usize> {
    len: u8,
    items: [T; N],
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self { len: 0, items: [T::default(); N] }
    }
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// Returns the items, first in front.
    pub fn items(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }

    /// Returns the items to be changed.
    pub fn items_mut(&mut self) -> &mut [T] {
        &mut self.items[..usize::from(self.len)]
    }

    /// Returns how many items there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item behind the others.
    ///
    /// # Panics
    /// If there are `N` already.
    pub fn push(&mut self, item: T) {
        self.items[self.len()] = item;
        self.len += 1;
    }

    /// Adds an item in front of the others.
    ///
    /// # Panics
    /// If there are `N` already.
    pub fn push_front(&mut self, item: T) {
        self.push(item);
        self.items_mut().rotate_right(1);
    }

    /// Takes the item at a place out.
    pub fn remove(&mut self, at: usize) -> T {
        let item = self.items()[at];
        self.items_mut()[at..].rotate_left(1);
        self.len -= 1;
        item
    }
}

impl<T: Copy + Default + PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self.items() == other.items()
    }
}

impl<T: Copy + Default + Eq, const N: usize> Eq for List<T, N> {}

impl<T: Copy + Default + Hash, const N: usize> Hash for List<T, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.items().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_out_does_not_count() {
        let (mut a, mut b) = (List::<u8, 4>::default(), List::<u8, 4>::default());
        for item in [1, 2, 3] {
            a.push(item);
        }
        assert_eq!(a.remove(1), 2);
        b.push(3);
        b.push_front(1);
        assert_eq!(a, b);
        assert_eq!(a.items(), [1, 3]);
    }
}
