//! One suite of claims over both disks.
