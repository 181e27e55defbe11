//! Cycles in what stages use.

use std::collections::BTreeMap;

/// Returns the first stage, in the order of the file, from which a cycle can be reached, and what
/// is known of the use that closes the cycle.
///
/// A stage from which none was found is not looked at again, so this takes one step for each edge;
/// it keeps its own stack, as a file may chain more stages than there is room for calls.
pub(crate) fn find<U>(uses: &[BTreeMap<usize, U>]) -> Option<(usize, &U)> {
    let mut seen = vec![false; uses.len()];
    let mut on_path = vec![false; uses.len()];
    for start in 0..uses.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        on_path[start] = true;
        let mut path = vec![(start, uses[start].iter())];
        while let Some((stage, rest)) = path.last_mut() {
            match rest.next() {
                Some((&next, closing)) if on_path[next] => return Some((start, closing)),
                Some((&next, _)) if seen[next] => {}
                Some((&next, _)) => {
                    seen[next] = true;
                    on_path[next] = true;
                    path.push((next, uses[next].iter()));
                }
                None => {
                    on_path[*stage] = false;
                    path.pop();
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::find;

    fn cycle(uses: &[&[usize]]) -> Option<(usize, String)> {
        let uses: Vec<BTreeMap<usize, String>> = uses
            .iter()
            .enumerate()
            .map(|(user, used)| used.iter().map(|&n| (n, format!("{user}>{n}"))).collect())
            .collect();
        find(&uses).map(|(start, closing)| (start, closing.clone()))
    }

    #[test]
    fn a_stage_that_uses_itself_is_a_cycle() {
        assert_eq!(cycle(&[&[], &[1]]), Some((1, "1>1".to_owned())));
    }

    #[test]
    fn the_first_stage_that_leads_to_a_cycle_is_named() {
        assert_eq!(cycle(&[&[1], &[2], &[1]]), Some((0, "2>1".to_owned())));
        assert_eq!(cycle(&[&[], &[0], &[3], &[2]]), Some((2, "3>2".to_owned())));
    }

    #[test]
    fn a_stage_used_twice_is_none() {
        assert_eq!(cycle(&[&[], &[0], &[0, 1], &[2, 1, 0]]), None);
    }

    #[test]
    fn long_chains_need_no_stack() {
        let mut uses: Vec<BTreeMap<usize, ()>> = (0..200_000)
            .map(|n| BTreeMap::from([(n + 1, ())]))
            .collect();
        uses.push(BTreeMap::from([(0, ())]));
        assert_eq!(find(&uses), Some((0, &())));
    }
}
