// Command compare runs the systems side by side in interleaved rounds, each as a
// process of its own, and prints medians, the bars that replkv has to meet, and
// whether the table counts.
package main
