"""What SQL databases share: every verb as a program, over statements that each database words by itself."""
