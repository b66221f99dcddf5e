//! What kind of system a test wants.

/// How many of everything.
#[derive(Clone, Debug)]
pub struct Options {
    /// Gateway processes.
    pub gateways: usize,
    /// Worker processes.
    pub workers: usize,
    /// Places on offer.
    pub places: u32,
    /// Slots of one session that the places are spread over.
    pub slots: u32,
    /// Patients who may come.
    pub patients: u32,
    /// Whether the programs reach PostgreSQL through a network that can be cut.
    pub has_fragile_network: bool,
    /// The programs' log filter; empty for the default.
    pub log: &'static str,
    /// More settings of the programs.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gateways: 1,
            workers: 1,
            places: 40,
            slots: 2,
            patients: 120,
            has_fragile_network: false,
            log: "",
            settings: &[],
        }
    }
}
