//! Cycles in what stages use.

use std::collections::BTreeSet;

/// Returns the first stage, in the order of the file, from which a cycle can be reached.
///
/// A stage from which none was found is not looked at again, so this takes one step for each edge;
/// it keeps its own stack, as a file may chain more stages than there is room for calls.
pub(crate) fn find(edges: &[BTreeSet<usize>]) -> Option<usize> {
    let mut seen = vec![false; edges.len()];
    let mut on_path = vec![false; edges.len()];
    for start in 0..edges.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        on_path[start] = true;
        let mut path = vec![(start, edges[start].iter())];
        while let Some((stage, rest)) = path.last_mut() {
            match rest.next() {
                Some(&next) if on_path[next] => return Some(start),
                Some(&next) if seen[next] => {}
                Some(&next) => {
                    seen[next] = true;
                    on_path[next] = true;
                    path.push((next, edges[next].iter()));
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
    use super::find;

    fn cycle(edges: &[&[usize]]) -> Option<usize> {
        let edges: Vec<_> = edges
            .iter()
            .map(|targets| targets.iter().copied().collect())
            .collect();
        find(&edges)
    }

    #[test]
    fn a_stage_that_uses_itself_is_a_cycle() {
        assert_eq!(cycle(&[&[], &[1]]), Some(1));
    }

    #[test]
    fn the_first_stage_that_leads_to_a_cycle_is_named() {
        assert_eq!(cycle(&[&[1], &[2], &[1]]), Some(0));
        assert_eq!(cycle(&[&[], &[0], &[3], &[2]]), Some(2));
    }

    #[test]
    fn a_stage_used_twice_is_none() {
        assert_eq!(cycle(&[&[], &[0], &[0, 1], &[2, 1, 0]]), None);
    }

    #[test]
    fn long_chains_need_no_stack() {
        let mut edges: Vec<std::collections::BTreeSet<usize>> = (0..200_000)
            .map(|n| std::iter::once(n + 1).collect())
            .collect();
        edges.push(std::iter::once(0).collect());
        assert_eq!(find(&edges), Some(0));
    }
}
