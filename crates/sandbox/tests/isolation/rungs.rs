use crate::Case;
pub(crate) const CASES: &[Case] = &[];
pub(crate) const USERS: [(&str, &str); 0] = [];
