"""EduBrite's `mergeAccounts`: its routes, its forms, its cookies and its XML."""
