package main

// What a cluster that is made of another's data must not have in common with it.
var ofBackups = []mutant{
	{
		name: "a restored cluster goes on at the revision of its backup",
		file: "store/restore.go",
		old:  "a.st.Revision += foundingGap",
		new:  "a.st.Revision++",
		by:   trial{pkg: "replkvtest", run: "^TestBackupRestore$", why: `the old cluster is at \d+`},
	},
	{
		name: "a restored cluster has the id of the old one",
		file: "restore.go",
		old:  "cluster: foundedID(f.cfg.ClusterToken, members, source.Cluster, st)}",
		new:  "cluster: source.Cluster}",
		by:   trial{pkg: "replkvtest", run: "^TestRestoreOfAnother$", why: `is not refused|stopped with`},
	},
	{
		name: "a restored cluster keeps the sessions of the old one",
		file: "store/restore.go",
		old:  "for id := range a.sessions { // all of them, in whatever order",
		new:  "for id := range (sessions{}) {",
		by:   trial{pkg: "store", run: "^TestFound$", why: `sessions are left`},
	},
	{
		name: "a recovered cluster lacks what was in the log only",
		file: "recover.go",
		old:  "if _, err := s.Apply(batch); err != nil {",
		new:  "if batch = batch[:0]; ctx.Err() != nil {\n\t\t\terr := ctx.Err()",
		by:   trial{pkg: "replkvtest", run: "^TestRecover$", why: `not found`},
	},
}
