//! Streams of keys such as caches see, made from a seed.

/// A small generator whose numbers are the same everywhere (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

/// Ranks by Zipf's law, drawn from a table of sums.
#[derive(Debug)]
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let whole = self.0.last().copied().unwrap_or_default();
        let at = random.unit() * whole;
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

/// A stream with a name, and the sizes of caches that it is tried with.
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    pub(crate) keys: Vec<u64>,
    pub(crate) sizes: Vec<usize>,
}

/// All of them.
pub(crate) fn all() -> Vec<Stream> {
    vec![
        Stream { name: "zipf", keys: zipf(1, 0.9, 100_000, 600_000), sizes: vec![500, 2_000, 10_000] },
        Stream { name: "zipf-flat", keys: zipf(2, 0.7, 50_000, 600_000), sizes: vec![500, 2_000, 10_000] },
        Stream { name: "zipf-moving", keys: moving(10), sizes: vec![500, 2_000, 10_000] },
        Stream { name: "loop", keys: loops(3), sizes: vec![250, 500, 1_000, 2_000] },
        Stream { name: "loop-large", keys: large_loop(4), sizes: vec![500, 2_000, 4_000] },
        Stream { name: "loops-mixed", keys: mixed_loops(11), sizes: vec![200, 800, 2_000] },
        Stream { name: "scan", keys: scans(5), sizes: vec![500, 2_000, 10_000] },
        Stream { name: "database", keys: database(6), sizes: vec![500, 2_000, 8_000] },
        Stream { name: "database-recent", keys: stack(7), sizes: vec![500, 2_000, 8_000] },
        Stream { name: "search", keys: search(8), sizes: vec![2_000, 10_000, 50_000] },
        Stream { name: "web", keys: web(9), sizes: vec![500, 2_000, 10_000] },
    ]
}

fn zipf(seed: u64, exponent: f64, ranks: usize, requests: usize) -> Vec<u64> {
    let (mut random, law) = (Random::new(seed), Zipf::new(ranks, exponent));
    (0..requests).map(|_| law.draw(&mut random)).collect()
}

/// Zipf whose ranks go to other keys little by little.
fn moving(seed: u64) -> Vec<u64> {
    let (mut random, law) = (Random::new(seed), Zipf::new(50_000, 0.9));
    (0..600_000_u64).map(|at| law.draw(&mut random) + (at / 60) * 5).collect()
}

/// A few loops of different lengths beside some keys that are used at random, as programs that scan indexes have.
fn loops(seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut keys = Vec::new();
    for _ in 0..60 {
        let (first, length) = match random.below(4) {
            0 => (0, 400),
            1 => (10_000, 800),
            2 => (20_000, 1_500),
            _ => (30_000, 2_600),
        };
        for _ in 0..2 + random.below(3) {
            for key in 0..length {
                keys.push(first + key);
                if random.chance(0.1) {
                    keys.push(100_000 + random.below(100));
                }
            }
        }
    }
    keys
}

fn large_loop(seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut keys = Vec::new();
    for _ in 0..80 {
        for key in 0..5_000 {
            keys.push(key);
            if random.chance(0.02) {
                keys.push(1_000_000 + random.next() % 1_000_000);
            }
        }
    }
    keys
}

/// Loops that run side by side, with keys that are used once between.
fn mixed_loops(seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut at = [0_u64; 4];
    let lengths = [60, 300, 1_200, 5_000];
    let mut once = 1_000_000;
    let draw = |random: &mut Random| {
        if random.chance(0.1) {
            once += 1;
            return once;
        }
        let which = random.below(4) as usize;
        at[which] = (at[which] + 1) % lengths[which];
        which as u64 * 100_000 + at[which]
    };
    std::iter::repeat_with({
        let mut draw = draw;
        move || draw(&mut random)
    })
    .take(400_000)
    .collect()
}

/// Zipf with long runs over keys that are used once.
fn scans(seed: u64) -> Vec<u64> {
    let (mut random, law) = (Random::new(seed), Zipf::new(20_000, 0.9));
    let mut keys = Vec::new();
    let mut next = 1_000_000;
    while keys.len() < 600_000 {
        for _ in 0..20_000 {
            keys.push(law.draw(&mut random));
        }
        for _ in 0..10_000 {
            next += 1;
            keys.push(next);
            if random.chance(0.3) {
                keys.push(law.draw(&mut random));
            }
        }
    }
    keys
}

/// Transactions: index pages by Zipf, rows that are used several times within a transaction and seldom again, a log
/// that grows, and a table that is scanned now and then.
fn database(seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let (index, rows) = (Zipf::new(5_000, 0.8), Zipf::new(200_000, 0.6));
    let mut keys = Vec::new();
    let mut log = 10_000_000;
    let mut recent: Vec<u64> = Vec::new();
    while keys.len() < 800_000 {
        for _ in 0..3 {
            keys.push(index.draw(&mut random));
        }
        let row = 1_000_000 + (rows.draw(&mut random).wrapping_mul(7_919) + keys.len() as u64 / 400) % 200_000;
        keys.push(row);
        recent.push(row);
        // A row that was touched not long ago is touched again.
        let back = ((random.unit().powi(2)) * 4_000.0) as usize;
        if recent.len() > back && random.chance(0.5) {
            keys.push(recent[recent.len() - 1 - back]);
        }
        if random.chance(0.2) {
            log += 1;
            keys.extend([log, log]);
        }
        if random.chance(0.000_05) {
            keys.extend((0..6_000).map(|page| 5_000_000 + page));
        }
    }
    keys
}

/// Reuse by recency alone: how far back a key was used follows a power law.
fn stack(seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut keys: Vec<u64> = Vec::new();
    let mut fresh = 0;
    while keys.len() < 600_000 {
        let back = random.unit().max(1e-9).powf(-1.6) as usize;
        if back > 0 && back <= keys.len() && back < 40_000 && random.chance(0.92) {
            keys.push(keys[keys.len() - back]);
        } else {
            fresh += 1;
            keys.push(fresh);
        }
    }
    keys
}

/// A large set, weakly skewed, with short runs: pages of an index that queries read.
fn search(seed: u64) -> Vec<u64> {
    let (mut random, law) = (Random::new(seed), Zipf::new(200_000, 0.55));
    let mut keys = Vec::new();
    while keys.len() < 1_500_000 {
        let first = law.draw(&mut random).wrapping_mul(48_271) % 200_000;
        for key in 0..1 + random.below(4) {
            keys.push(first + key);
        }
    }
    keys
}

/// Zipf of which a third of the requests is for keys that come once, as the long tail of a site does, and whose new pages
/// are popular for a while.
fn web(seed: u64) -> Vec<u64> {
    let (mut random, law) = (Random::new(seed), Zipf::new(30_000, 1.0));
    let mut once = 10_000_000_u64;
    let news = Zipf::new(300, 0.8);
    (0..800_000_u64)
        .map(|at| match random.unit() {
            part if part < 0.3 => {
                once += 1;
                once
            }
            part if part < 0.5 => 1_000_000 + (at / 20_000) * 100 + news.draw(&mut random),
            _ => law.draw(&mut random),
        })
        .collect()
}
