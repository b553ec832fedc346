"""Objects across subvolumes: consensus, reconcile, agglomerate."""
