// Package chaos runs members as processes of their own, each in a network
// namespace and on a disk image, and does to them what machines do: kills,
// pauses, cuts, losses, delays, full and failing disks, power losses. Clients
// work meanwhile, and their histories are checked. README.md says how to run it.
// Its tests are all there is.
package chaos
