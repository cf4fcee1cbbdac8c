//! The tables of load shedding.

use crate::grammar::{choice, table};
use crate::http::FieldName;
use crate::quantity::{Decimal, Int, Share, Time};

table! {
    /// Refuses requests that a service cannot take, the least important first. How many it takes at once is found out from
    /// how long it takes.
    "`shedding` of `[service.NAME]`"
    struct RawShedding {
        /// The limit of requests under way is never below this.
        limit_min: Int<1, 1_000_000> = 8;
        /// The limit at first. By default 20, or the nearer of the two bounds.
        limit_start: Int<1, 1_000_000> = optional;
        /// The limit is never above this.
        limit_max: Int<1, 1_000_000> = 1000;
        /// How many times as long as at ease requests may take before the limit shrinks.
        tolerance: Decimal<105, 1_000> = 1.2;
        /// The share of the limit from which requests of priority `low` are refused.
        low_share: Share = "70%";
        /// The share of the limit from which those of priority `normal` are refused.
        normal_share: Share = "90%";
        /// Most requests that wait for a place, of which each worker has its part. With 0 none waits.
        queue_max: Int<0, 100_000> = 100;
        /// Longest wait for a place. When some have waited for as long without a pause, it is a twentieth of that, until
        /// none had to wait for as long.
        queue_timeout: Time<1, 60_000> = "100ms";
    }
}

table! {
    /// How important the requests of a route are to a service that sheds load.
    "`priority` of `[[route]]`"
    struct RawPriority {
        /// The class of those that do not say it themselves.
        class: ClassWord = "normal";
        /// The field of requests that may say it: `low`, `normal` or `critical`. By default none may.
        header: FieldName = optional;
        /// The highest class that the field can give. By default `class`, so that clients can give up importance, but not
        /// claim it.
        header_max: SaidWord = optional;
    }
}

choice! {
    /// Classes of requests.
    enum ClassWord {
        Low = "low" also "sheddable", "background", "bulk", "batch", "sheddable_plus";
        Normal = "normal" also "default", "medium";
        Critical = "critical" also "high", "important", "critical_plus";
        Exempt = "exempt" also "never", "none", "off", "unlimited";
    }
}

choice! {
    /// Classes that requests may say.
    enum SaidWord {
        Low = "low";
        Normal = "normal" also "default", "medium";
        Critical = "critical" also "high", "important";
    }
}
