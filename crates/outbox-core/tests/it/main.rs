//! What the core decides, as pages that are read and tables that are compared with it.

mod decision_table;
mod names;
mod resends;
