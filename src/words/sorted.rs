//! Maps and sets as sorted lists: what a device has of each fits a few pages of memory, and the code of the standard
//! ones, made anew for each of the dozens of types that are kept here, was 150 KB.

use core::borrow::Borrow;
use core::ops::Index;
use core::{iter, mem};
use serde::{Deserialize, Serialize};
use std::vec;

/// Values by key, in the order of the keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(K, V)>", bound(deserialize = "K: Ord + Deserialize<'de>, V: Deserialize<'de>"))]
pub struct Map<K, V>(Vec<(K, V)>);

/// Things that are there once, in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set<T>(Map<T, ()>);

impl<K: Ord, V> Map<K, V> {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(self.find(key).ok()?).map(|(_, value)| value)
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// What was there before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| mem::replace(old, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// What is there; this, if nothing is.
    #[expect(clippy::indexing_slicing, reason = "it is where it has just been found or put")]
    pub fn or_insert(&mut self, key: K, value: V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, value));
                at
            }
        };
        &mut self.0[at].1
    }

    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert(key, V::default())
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// Those from this key on.
    pub fn starting_at(&self, key: &K) -> impl Iterator<Item = (&K, &V)> {
        let (Ok(at) | Err(at)) = self.find(key);
        self.0.iter().skip(at).map(|(key, value)| (key, value))
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }
}

impl<K: Ord, V> From<Vec<(K, V)>> for Map<K, V> {
    fn from(all: Vec<(K, V)>) -> Self {
        all.into_iter().collect()
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(all: [(K, V); N]) -> Self {
        all.into_iter().collect()
    }
}

/// For what is known to be there: in tests.
impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for Map<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the key is there")
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        let mut map = Self::new();
        map.extend(all);
        map
    }
}

/// The last one of a key stays.
impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, all: I) {
        all.into_iter().for_each(|(key, value)| {
            self.insert(key, value);
        });
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T: Ord> Set<T> {
    pub const fn new() -> Self {
        Self(Map::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn contains<Q: Ord + ?Sized>(&self, thing: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(thing)
    }

    /// Whether it is new.
    pub fn insert(&mut self, thing: T) -> bool {
        self.0.insert(thing, ()).is_none()
    }

    /// Whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, thing: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(thing).is_some()
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|thing, ()| keep(thing));
    }

    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    pub fn pop_first(&mut self) -> Option<T> {
        (!self.is_empty()).then(|| self.0.0.remove(0).0)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.keys()
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self(all.into_iter().map(|thing| (thing, ())).collect())
    }
}

impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, all: I) {
        self.0.extend(all.into_iter().map(|thing| (thing, ())));
    }
}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = iter::Map<vec::IntoIter<(T, ())>, fn((T, ())) -> T>;

    fn into_iter(self) -> Self::IntoIter {
        let thing: fn((T, ())) -> T = |(thing, ())| thing;
        self.0.into_iter().map(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_in_order_and_has_each_key_once() {
        let mut map: Map<String, u8> = ["c", "a", "b", "a"].into_iter().zip(0..).map(|(k, v)| (k.into(), v)).collect();
        assert_eq!(
            map.iter().map(|(key, value)| (key.as_str(), *value)).collect::<Vec<_>>(),
            [("a", 3), ("b", 2), ("c", 0)]
        );
        assert_eq!((map.get("b").copied(), map.get("d"), map.contains_key("c")), (Some(2), None, true));
        assert_eq!(map.insert("b".into(), 7), Some(2));
        *map.or_default("0".into()) += 1;
        assert_eq!((*map.or_insert("0".into(), 9), *map.or_insert("z".into(), 9)), (1, 9));
        assert_eq!(map.starting_at(&"bb".into()).map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["c", "z"]);
        assert_eq!((map.remove("c"), map.remove("c"), map.len()), (Some(0), None, 4));
        map.retain(|_, value| *value > 6);
        assert_eq!(map.into_iter().collect::<Vec<_>>(), [("b".into(), 7), ("z".into(), 9)]);
    }

    #[test]
    fn a_set_is_in_order_and_has_each_thing_once() {
        let mut set = Set::from_iter([3, 1, 2, 1]);
        assert!(set.insert(0) && !set.insert(3) && set.contains(&2) && set.remove(&2) && !set.remove(&2));
        assert_eq!((set.pop_first(), set.first(), set.iter().eq(&[1, 3])), (Some(0), Some(&1), true));
    }

    /// What is written as a list of pairs may be read as one in any order.
    #[test]
    fn what_is_read_is_in_order() {
        let bytes = postcard::to_allocvec(&vec![(9u8, 1u8), (3, 2), (9, 4)]).unwrap();
        let map: Map<u8, u8> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((map.get(&3), map.get(&9), map.len()), (Some(&2), Some(&4), 2));
        assert_eq!(postcard::to_allocvec(&map).unwrap(), [2, 3, 2, 9, 4]);
    }
}
