"""Pictures, depth maps and thermal pictures, and what their files say of themselves."""
