// Package objects brings sealed objects from the folder where they are made to
// the place where they are kept: a bucket of an S3-compatible store, or another
// folder.
//
// The folder is the queue. A recording is sealed into it, on a local disk, so
// that the end of a session waits for no network; a Queue then compares each
// object with what the audit log holds, brings it to its Store, reads it back,
// compares its SHA-256, and only then removes it from the folder. What a crash leaves is a
// folder with objects in it, and the next start goes on with those: an object
// that had arrived already is compared and removed, and never stored twice.
//
// Each object is tried by itself, later and later. One that fails again and
// again while others arrive, or is not what the audit log says, goes into the
// folder "quarantine" beside the others, is reported, and can be read there. A
// store that is away fails them all, and condemns none.
//
// The package trusts the file system. It trusts the Store with nothing but room:
// what is kept there is encrypted and signed, and whoever rules it can withhold
// an object or put another in its place, which a look at the recording finds.
// It does not decide what is kept for how long.
package objects
